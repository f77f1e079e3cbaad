"""What a job that relaxes structures tells: what is odd about them, where each run ended, which minima it found, what repeats."""

import re
from itertools import groupby
from typing import Literal

from pydantic import Field

from app.wire.base import View

Outcome = Literal["converged", "not-converged", "not-finite", "stopped"]
"""converged: no force is larger than asked for. not-converged: it took all its steps. not-finite: an energy or a force was none.
stopped: the job was paused or cancelled on its way."""

_TIME = re.compile(r", time (\d+)$")
"""The end of `Repeat.how` of what is done several times in the same way."""


class Finding(View):
    """Something odd about a structure. Atoms are counted from 0, as ASE counts them."""

    code: str = Field(description="`atoms-overlap`, `atoms-close`, `same-place`, `cell-too-small`, …")
    message: str
    refused: bool = Field(description="Whether `on_unphysical: refuse` refuses the structure for it.")
    atoms: list[int] = []
    elements: list[str] = Field(default=[], description="Of these atoms, in their order.")
    distance: float | None = Field(default=None, description="Between the two, the nearest images, in Å.")
    limit: float | None = Field(default=None, description="What it should not be below or above, in Å.")


class CheckedStructure(View):
    """A structure and all that is odd about it."""

    name: str
    atoms: int
    formula: str
    findings: list[Finding] = []


class RelaxedRun(View):
    """One run: a structure, from one start, by one model."""

    name: str = Field(description="Its name in the charts and in the files: `POSCAR`, `POSCAR.2`.")
    model: str
    structure: str
    start: int = Field(description="From 1: the structure as it came; the others are displaced.")
    outcome: Outcome
    steps: int = Field(description="Steps of the optimiser: one less than frames.")
    first_frame: int = Field(description="Its first frame in the files of the trajectory, from 0.")
    frames: int
    atoms: int
    formula: str
    energy: float | None = Field(description="In eV, at the end; null stands for NaN or infinity.")
    energy_per_atom: float | None = Field(description="In eV.")
    fmax: float | None = Field(description="The largest force that the optimiser saw at the end, in eV/Å.")
    volume: float | None = Field(default=None, description="In Å³; None without a cell.")
    digest: str = Field(description="SHA-256 over positions, cell, energy and forces of every frame, as 64-bit floats.")


class Minimum(View):
    """A minimum that runs ended in, of one composition by one model."""

    model: str
    formula: str
    rank: int = Field(description="From 1, the lowest, among those of its composition.")
    energy: float = Field(description="In eV, of the run that went lowest.")
    above: float = Field(description="By how much it lies above the lowest, in eV per atom.")
    runs: list[str] = Field(description="Those that ended in it, the lowest first.")


class Repeat(View):
    """All runs done once more, compared with the first time bit for bit."""

    how: str = Field(description="`in the same process, time 2`, `in a fresh process`, `with 2 threads`, …")
    identical: bool
    frames: int = Field(description="Frames that were compared.")
    positions: float = Field(description="Largest difference of a coordinate, in Å.")
    energy: float = Field(description="Largest difference of an energy, in eV.")
    forces: float = Field(description="Largest difference of a force component, in eV/Å.")
    parts_in: str | None = Field(default=None, description="The first run that differs.")
    parts_at: int | None = Field(default=None, description="Its first frame that differs, from 0.")


class RelaxReport(View):
    """The file that such a job leaves (`Task.relaxed`)."""

    library: str
    optimizer: str
    fmax: float
    cell: str
    form: str = Field(description="What the models were run from: `checkpoint` or `frozen`.")
    threads: int
    structures: list[CheckedStructure]
    runs: list[RelaxedRun]
    minima: list[Minimum] = []
    repeats: list[Repeat] = []
    trajectory: str = Field(description="The file with every frame that programs and the page's view read.")

    def repeats_in_words(self) -> list[Repeat]:
        """Return `repeats` with those as one that were done the same way one after another, all of them identical."""
        return [_as_one(list(alike)) for _, alike in groupby(self.repeats, _way)]


def _way(repeat: Repeat) -> tuple[str, int] | int:
    """Return what repeats that are told as one have in common; one that differs is told by itself."""
    return (_TIME.sub("", repeat.how), repeat.frames) if repeat.identical else id(repeat)


def _as_one(alike: list[Repeat]) -> Repeat:
    first, last = alike[0], alike[-1]
    until = _TIME.search(last.how)
    if first is last or until is None:
        return first
    return first.model_copy(update={"how": first.how.replace(", time ", ", times ") + f" to {until[1]}"})
