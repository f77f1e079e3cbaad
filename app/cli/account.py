"""`cairn login|whoami`: which server, and as whom."""

from typing import Annotated

import typer

from app.cli.options import Json


def login(
    url: Annotated[str, typer.Argument(help="The server's address.")] = "http://127.0.0.1:8765",
    token: Annotated[
        str | None, typer.Option(help="Its token; asked for when absent, so that it stays out of the shell's history.")
    ] = None,
) -> None:
    """Keep a server's address and token for later commands."""
    from app.cli import server
    from app.cli.api import Api
    from app.cli.screen import out

    address = server.checked_url(url)
    secret = token or typer.prompt("Token", hide_input=True)
    Api(server.Server(address, secret.strip(), "the command line", "the command line")).get("/whoami")
    path = server.store(address, secret.strip())
    out().print(f"Logged in to {address}; kept in {path}.")


def whoami(json: Json = False) -> None:
    """Show which server is used, and where its address and token come from."""
    from app.cli.api import connect
    from app.cli.screen import out, print_json

    api = connect()
    found = api.get("/whoami")
    known = {"url": api.server.url, "url_from": api.server.url_from, "token_from": api.server.token_from}
    if json:
        print_json(known | found)
        return
    out().print(f"{api.server.url} (from {api.server.url_from})")
    out().print(f"as {found.get('name')} (token from {api.server.token_from})")
