"""`cairn relax`: what it is called and takes."""

from enum import StrEnum
from typing import Annotated

import typer

from app.cli.evaluating import Detach, Head, Name
from app.cli.options import Force, Json, Output, given


class Optimizer(StrEnum):
    """ASE's optimisers."""

    LBFGS = "LBFGS"
    BFGS = "BFGS"
    FIRE = "FIRE"


class Unphysical(StrEnum):
    """What to do with structures that can be none."""

    refuse = "refuse"
    warn = "warn"


class Form(StrEnum):
    """What models are run from."""

    checkpoint = "checkpoint"
    frozen = "frozen"


class CellMode(StrEnum):
    """What becomes of the cell."""

    fixed = "fixed"
    filter = "filter"


class Compared(StrEnum):
    """What else all is done with."""

    threads = "threads"
    form = "form"


def relax(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="job:ID[@STEP], a base model, or group:ID (each of its replicas).")
    ],
    structures: Annotated[
        list[str], typer.Argument(metavar="STRUCTURE...", help="Files that ASE reads, or dataset:NAME/STRUCTURE.")
    ],
    optimizer: Annotated[Optimizer | None, typer.Option(help="[default: LBFGS]")] = None,
    fmax: Annotated[float | None, typer.Option(help="Ends when no force is larger, in eV/Å [default: 0.05].")] = None,
    steps: Annotated[
        int | None, typer.Option(min=0, help="Steps of the optimiser at most, of each run [default: 500].")
    ] = None,
    cell: Annotated[CellMode | None, typer.Option(help="filter: the cell relaxes, too [default: fixed].")] = None,
    pressure: Annotated[float | None, typer.Option(help="On the cell, in GPa [default: 0].")] = None,
    starts: Annotated[
        int | None, typer.Option(min=1, help="Runs of each structure, all but the first displaced [default: 1].")
    ] = None,
    sigma: Annotated[float | None, typer.Option(help="By how much, in Å [default: 0.1].")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the displacements.")] = None,
    repeat: Annotated[
        int | None, typer.Option(min=1, help="How often all is done, compared bit for bit [default: 1].")
    ] = None,
    compare: Annotated[
        list[Compared] | None, typer.Option(help="Also with other threads, or from the other form. Repeatable.")
    ] = None,
    form: Annotated[Form | None, typer.Option(help="frozen: models are frozen first [default: checkpoint].")] = None,
    on_unphysical: Annotated[
        Unphysical | None, typer.Option("--on-unphysical", help="warn: relax it all the same [default: refuse].")
    ] = None,
    head: Head = None,
    name: Name = None,
    download: Annotated[bool, typer.Option("--download", help="Also fetch the files when it is done.")] = False,
    output: Output = None,
    force: Force = False,
    detach: Detach = False,
    json: Json = False,
) -> None:
    """Relax structures by a model, the same bits every time: on a worker, watched until it ends."""
    from app.cli import relaxing, working
    from app.cli.downloading import Target

    config = {"models": [model]} | given(
        optimizer=optimizer, fmax=fmax, max_steps=steps, cell=cell, pressure=pressure, starts=starts, sigma=sigma,
        repeat=repeat, compare=compare or None, form=form, on_unphysical=on_unphysical, head=head,
    )  # fmt: skip
    target = Target(output, force=force) if download or output else None
    wanted = working.Wanted("relax", config, name=name, target=target, options=given(seed=seed))
    relaxing.relax(wanted, structures, detach=detach, as_json=json)
