"""The worst frames of a test: which they are, and an extxyz file of them, labels beside predictions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from app.wire.measuring import WorstFrame
from worker.engines.deepmd.errors import Batch, FrameErrors, finite


@dataclass(frozen=True)
class Frame:
    """One evaluated frame that is kept."""

    batch: Batch
    """Cut down to this frame."""
    errors: FrameErrors

    @property
    def key(self) -> tuple[str, int]:
        """Return which frame of which system it is."""
        return self.batch.system, self.batch.first


class Worst:
    """The frames with the largest errors so far, at most so many by force and by energy each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by: dict[str, list[Frame]] = {"force": [], "energy": []}

    def add(self, batch: Batch, errors: Sequence[FrameErrors]) -> None:
        """Look at some more frames, and keep those that are worse than what is kept."""
        frames = [Frame(_only(batch, index), found) for index, found in enumerate(errors)]
        for what, kept in self._by.items():
            measured = [frame for frame in frames if getattr(frame.errors, what) is not None]
            self._by[what] = sorted([*kept, *measured], key=lambda frame: _size(frame, what), reverse=True)[
                : self._most
            ]

    def ranked(self) -> list[tuple[Frame, list[str]]]:
        """Return the frames, the worst by force first, then those by energy, and what each is among the worst of."""
        found: dict[tuple[str, int], tuple[Frame, list[str]]] = {}
        for what, frames in self._by.items():
            for frame in frames:
                found.setdefault(frame.key, (frame, []))[1].append(what)
        return list(found.values())


def _size(frame: Frame, what: str) -> float:
    value: float = getattr(frame.errors, what).rmse
    return math.inf if math.isnan(value) else value


def _only(batch: Batch, index: int) -> Batch:
    """Return one frame, copied: a view would keep its whole batch in memory."""
    own = slice(index, index + 1)
    pairs = {
        name: type(pair)(pair.label[own].copy(), pair.predicted[own].copy()) if pair else None
        for name, pair in (("energy", batch.energy), ("force", batch.force), ("virial", batch.virial))
    }
    return Batch(
        system=batch.system,
        first=batch.first + index,
        symbols=batch.symbols[own].copy(),
        coord=batch.coord[own].copy(),
        cell=batch.cell[own].copy() if batch.cell is not None else None,
        **pairs,
    )


def listed(ranked: Sequence[tuple[Frame, list[str]]]) -> list[WorstFrame]:
    """Return what is to be told of the frames, in the order of the file."""
    return [_row(frame.batch, frame.errors, by) for frame, by in ranked]


def _row(batch: Batch, errors: FrameErrors, by: list[str]) -> WorstFrame:
    return WorstFrame(
        system=batch.system,
        frame=batch.first,
        atoms=batch.atoms,
        by=by,
        energy_error_per_atom=finite(errors.energy.rmse) if errors.energy else None,
        force_rmse=finite(errors.force.rmse) if errors.force else None,
        largest_force_error=finite(errors.largest),
        atom=errors.atom,
        element=str(batch.symbols[0, errors.atom]) if errors.atom is not None else None,
    )


def write_extxyz(path: Path, ranked: Sequence[tuple[Frame, list[str]]]) -> None:
    """Write the frames: energy and forces are the labels, `energy_model` and `forces_model` what the model says."""
    write(path, [_atoms(frame) for frame, _ in ranked], format="extxyz")


def _atoms(frame: Frame) -> Atoms:
    batch = frame.batch
    real = batch.symbols[0] != ""
    atoms = Atoms(
        symbols=batch.symbols[0][real].tolist(),
        positions=batch.coord[0][real],
        cell=batch.cell[0] if batch.cell is not None else None,
        pbc=batch.cell is not None,
    )
    labels: dict[str, Any] = {}
    if batch.energy is not None:
        labels["energy"] = float(batch.energy.label[0])
        atoms.info["energy_model"] = float(batch.energy.predicted[0])
    if batch.force is not None:
        labels["forces"] = batch.force.label[0][real]
        atoms.arrays["forces_model"] = batch.force.predicted[0][real]
    atoms.info |= {"system": batch.system, "frame": batch.first}
    atoms.calc = SinglePointCalculator(atoms, **labels)  # type: ignore[no-untyped-call]
    return atoms
