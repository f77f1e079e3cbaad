"""`cairn workers`: what the command is called and takes."""

from typing import Annotated

import typer

from app.cli.options import Json


def workers(
    drain: Annotated[
        str | None, typer.Option(metavar="NAME", help="Let this worker finish what it has and take nothing more.")
    ] = None,
    undrain: Annotated[str | None, typer.Option(metavar="NAME", help="Let this worker take work again.")] = None,
    json: Json = False,
) -> None:
    """List the workers, or choose which take work."""
    from app.cli import fleet

    if drain is not None or undrain is not None:
        fleet.set_drain(drain, undrain, as_json=json)
    else:
        fleet.list_workers(as_json=json)
