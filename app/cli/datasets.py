"""`cairn dataset add|ls|show|rm`: what the commands are called and take."""

from typing import Annotated

import typer

from app.cli.options import Engine, Json, Limit, given


def add(
    path: Annotated[
        str,
        typer.Argument(
            help="What to add, as its engine reads it: an archive or directory of systems, a trajectory, JSON lines, a tokenizer."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Its name [default: the file's]; under a known name it becomes a new version.")
    ] = None,
    type_map: Annotated[
        str | None, typer.Option(help="Elements, for systems without type_map.raw: O,H.", metavar="ELEMENTS")
    ] = None,
    structures: Annotated[
        bool, typer.Option("--structures", help="Structures to relax, without labels, in files that ASE reads.")
    ] = False,
    on_server: Annotated[
        bool, typer.Option("--on-server", help="PATH is a directory on the server, below one of its dataset roots.")
    ] = False,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Add a dataset: upload a file or directory, or register one that the server sees."""
    from app.cli import data

    form = "structures" if structures else None
    fields = given(name=name, type_map=type_map, engine=engine, form=form)
    data.add(path, fields, on_server=on_server, as_json=json)


def ls(
    name: Annotated[str | None, typer.Option(help="Only datasets whose name contains this.")] = None,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List datasets, newest first."""
    from app.cli import data

    data.list_datasets(name, limit=limit, as_json=json)


def show(
    dataset: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The dataset.")], json: Json = False
) -> None:
    """Show what is in a dataset."""
    from app.cli import data

    data.show(dataset, as_json=json)


def rm(
    dataset: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="The dataset, with its version.")],
    json: Json = False,
) -> None:
    """Delete a version that no job uses. Its number is never given again."""
    from app.cli import data

    data.remove(dataset, as_json=json)
