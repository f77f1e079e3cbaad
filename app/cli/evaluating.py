"""`cairn test|freeze|model-devi`: what the commands that do something with models are called and take."""

from typing import Annotated

import typer

from app.cli.options import Force, Json, Output, given

Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="group:ID (all its replicas), job:ID, or a base model; group:3@4000, job:17@4000, water@3 are exact.",
    ),
]
Data = Annotated[
    list[str], typer.Option("--data", "-d", metavar="REF", help="dataset:NAME[@VERSION][/SYSTEM]. Repeatable.")
]
Head = Annotated[str | None, typer.Option(help="Which task of a model with several.")]
Name = Annotated[str | None, typer.Option(help="Name of the job [default: the server's choice].")]
Detach = Annotated[bool, typer.Option("--detach", help="Submit it, and do not wait for it.")]


def test(
    models: Models,
    data: Data,
    numb_test: Annotated[
        int | None, typer.Option("--numb-test", "-n", min=0, help="At most so many frames of each system; 0: all.")
    ] = None,
    head: Head = None,
    detail: Annotated[
        bool, typer.Option("--detail/--no-detail", help="Also write every label beside its prediction (results.*.out).")
    ] = True,
    worst: Annotated[int | None, typer.Option(min=0, help="How many of the worst frames are kept.")] = None,
    name: Name = None,
    download: Annotated[bool, typer.Option("--download", help="Also fetch the files when it is done.")] = False,
    output: Output = None,
    force: Force = False,
    detach: Detach = False,
    json: Json = False,
) -> None:
    """Measure the errors of models on data, as `dp test` does: on a worker, watched until it ends."""
    from app.cli import errors, working
    from app.cli.downloading import Target

    config = {"models": models, "data": data} | given(numb_test=numb_test, head=head, worst=worst)
    config |= {} if detail else {"detail": False}
    target = Target(output, force=force) if download or output else None
    errors.test(working.Wanted("test", config, name=name, target=target), detach=detach, as_json=json)


def freeze(
    models: Models,
    head: Head = None,
    name: Name = None,
    download: Annotated[bool, typer.Option("--download", help="Also fetch frozen_model.pth when it is done.")] = False,
    output: Output = None,
    force: Force = False,
    new: Annotated[bool, typer.Option("--new", help="Freeze again what is frozen here already.")] = False,
    detach: Detach = False,
    json: Json = False,
) -> None:
    """Freeze checkpoints for LAMMPS and ASE, and prove that the weights are the same: on a worker."""
    from app.cli import freezing
    from app.cli.downloading import Target

    target = Target(output, force=force) if download or output else None
    config = {"models": models} | given(head=head)
    freezing.freeze(freezing.wanted(config, name=name, target=target, new=new), detach=detach, as_json=json)


def model_devi(
    models: Models,
    data: Data,
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
    name: Name = None,
    download: Annotated[bool, typer.Option("--download", help="Also fetch model_devi.out when it is done.")] = False,
    output: Output = None,
    force: Force = False,
    detach: Detach = False,
    json: Json = False,
) -> None:
    """Compute by how much models disagree on data, as `dp model-devi` does: on a worker, watched until it ends."""
    from app.cli import deviating, working
    from app.cli.downloading import Target

    config = {"models": models, "data": data, "atomic": atomic}
    config |= given(relative=relative, frequency=frequency, stride=stride, limit=limit)
    target = Target(output, force=force) if download or output else None
    trust = deviating.levels(lo, hi)
    wanted = working.Wanted(
        "model-devi", config, name=name, target=target, wants=lambda remote: remote.name == deviating.FILE
    )
    deviating.deviate(wanted, trust, detach=detach, as_json=json)
