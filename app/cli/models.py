"""`cairn model add|promote|ls|show|download|rm`: what the commands are called and take."""

from typing import Annotated

import typer

from app.cli.options import Engine, Force, Job, Json, Limit, Output, given

Reference = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION]", help="The base model; job:ID[@STEP] is one made of a checkpoint.")
]


def add(
    file: Annotated[str, typer.Argument(help="A checkpoint or frozen model: model.pt, model.pth, ….")],
    name: Annotated[
        str | None, typer.Option(help="Its name [default: the file's]; under a known name it becomes a new version.")
    ] = None,
    engine: Engine = None,
    json: Json = False,
) -> None:
    """Upload a file of weights to start from, and show what a worker finds in it."""
    from app.cli import weights

    weights.add(file, given(name=name, engine=engine), as_json=json)


def promote(
    job: Job,
    step: Annotated[int | None, typer.Option(min=0, help="Of this step [default: the newest].")] = None,
    name: Annotated[str | None, typer.Option(help="Its name [default: job-ID].")] = None,
    json: Json = False,
) -> None:
    """Make a base model of a job's checkpoint."""
    from app.cli import weights

    weights.promote(given(job=job, step=step, name=name), as_json=json)


def ls(
    name: Annotated[str | None, typer.Option(help="Only base models whose name contains this.")] = None,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List base models, newest first."""
    from app.cli import weights

    weights.list_models(name, limit=limit, as_json=json)


def show(
    model: Reference,
    tensors: Annotated[bool, typer.Option("--tensors", help="Also every tensor in it.")] = False,
    json: Json = False,
) -> None:
    """Show what is in a base model."""
    from app.cli import weights

    weights.show(model, tensors=tensors, as_json=json)


def download(model: Reference, output: Output = None, force: Force = False, json: Json = False) -> None:
    """Download a base model's file, byte for byte as it came; resumes, and verifies what arrived."""
    from app.cli import weights
    from app.cli.downloading import Target

    weights.download(model, Target(output, force=force), as_json=json)


def rm(
    model: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="The base model, with its version.")],
    json: Json = False,
) -> None:
    """Delete a version from which no job starts. Its number is never given again."""
    from app.cli import weights

    weights.remove(model, as_json=json)
