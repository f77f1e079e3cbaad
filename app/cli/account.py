"""`cairn dashboard|login|whoami`: which server, and as whom."""

from typing import Annotated

import typer

from app.cli.options import Json


def dashboard(
    open_: Annotated[bool, typer.Option("--open", help="Open it in a browser, too.")] = False, json: Json = False
) -> None:
    """Print a link that signs one browser in to the dashboard, once."""
    from app.cli.api import connect, view
    from app.cli.screen import out, print_json
    from app.wire.system import LoginLink

    with connect() as api:
        found = api.post("/login-links")
    if json:
        print_json(found)
    else:
        out().print(view(LoginLink, found).url, soft_wrap=True)
    if open_:
        typer.launch(found["url"])


def login(
    url: Annotated[str, typer.Argument(help="The server's address.")] = "http://127.0.0.1:8765",
    token: Annotated[
        str | None, typer.Option(help="Its token; asked for when absent, so that it stays out of the shell's history.")
    ] = None,
) -> None:
    """Keep a server's address and token for later commands."""
    from app.cli import server
    from app.cli.api import connect
    from app.cli.screen import out

    address = server.checked_url(url)
    secret = token or typer.prompt("Token", hide_input=True)
    with connect(server.Server(address, secret.strip(), "the command line", "the command line")) as api:
        api.get("/whoami")
    path = server.store(address, secret.strip())
    out().print(f"Logged in to {address}; kept in {path}.")


def whoami(json: Json = False) -> None:
    """Show which server is used, and where its address and token come from."""
    from app.cli.api import connect
    from app.cli.screen import out, print_json

    with connect() as api:
        found = api.get("/whoami")
    known = {"url": api.server.url, "url_from": api.server.url_from, "token_from": api.server.token_from}
    if json:
        print_json(known | found)
        return
    out().print(f"{api.server.url} (from {api.server.url_from})")
    out().print(f"as {found.get('name')} (token from {api.server.token_from})")
