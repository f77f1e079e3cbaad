"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Job = Annotated[int, typer.Argument(metavar="JOB", help="The job's number.", min=1)]
Config = Annotated[str, typer.Argument(metavar="FILE", help="The input.json; - reads standard input.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value: --set training.numb_steps=1000. Repeatable."),
]
Seed = Annotated[int | None, typer.Option(help="Root seed; drawn and recorded when absent.")]
Engine = Annotated[str, typer.Option(help="Which engine trains.")]
Output = Annotated[
    str | None, typer.Option("--output", "-o", help="File to write to, or directory (one that is there, or DIR/).")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Database, blobs and tokens [default: CAIRN_DATA_DIR or ~/.cairn].", file_okay=False),
]


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given, so that the server's own defaults hold for the others."""
    return {name: value for name, value in options.items() if value not in (None, [])}
