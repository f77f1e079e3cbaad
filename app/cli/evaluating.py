"""`cairn model-devi`: what the commands that do something with models are called and take."""

from typing import Annotated

import typer

from app.cli.options import Force, Json, Output, given


def model_devi(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="group:ID (all its replicas), job:ID, or a base model; group:3@4000, job:17@4000, water@3 are exact.",
        ),
    ],
    data: Annotated[
        list[str], typer.Option("--data", "-d", metavar="REF", help="dataset:NAME[@VERSION][/SYSTEM]. Repeatable.")
    ],
    relative: Annotated[
        float | None, typer.Option(min=0, help="Level (eV/Å) of the relative deviation of forces [default: absolute].")
    ] = None,
    atomic: Annotated[bool, typer.Option("--atomic", help="Also write the deviation of every atom.")] = False,
    frequency: Annotated[
        int | None, typer.Option("--frequency", "-f", min=1, help="Steps between two frames of a trajectory.")
    ] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Only every so manieth frame of each system.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many frames of each system.")] = None,
    lo: Annotated[
        float | None, typer.Option("--lo", min=0, help="DP-GEN's lower trust level of max_devi_f, in eV/Å.")
    ] = None,
    hi: Annotated[
        float | None, typer.Option("--hi", min=0, help="DP-GEN's upper trust level: between the two are candidates.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the job [default: that of its data].")] = None,
    download: Annotated[bool, typer.Option("--download", help="Also fetch model_devi.out when it is done.")] = False,
    output: Output = None,
    force: Force = False,
    detach: Annotated[bool, typer.Option("--detach", help="Submit it, and do not wait for it.")] = False,
    json: Json = False,
) -> None:
    """Compute by how much models disagree on data, as `dp model-devi` does: on a worker, watched until it ends."""
    from app.cli import deviating
    from app.cli.downloading import Target

    config = {"models": models, "data": data, "atomic": atomic}
    config |= given(relative=relative, frequency=frequency, stride=stride, limit=limit)
    wanted = deviating.Wanted(
        config,
        name=name,
        levels=deviating.levels(lo, hi),
        target=Target(output, force=force) if download or output else None,
    )
    deviating.deviate(wanted, detach=detach, as_json=json)
