"""Trajectories of relaxations: kept to the last bit, told apart by digest, compared frame by frame."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.wire.relaxing import Repeat

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Frame:
    """A structure on its way, and what the model said of it. Lengths in Å, energies in eV."""

    positions: Floats
    """(atoms, 3)"""
    cell: Floats
    """(3, 3), zeros without one."""
    energy: float
    forces: Floats
    """(atoms, 3), of the model: fixed atoms have theirs."""
    stress: Floats
    """(6,), in Voigt's order and eV/Å³, where the optimiser moves the cell; zeros elsewhere."""
    fmax: float
    """The largest force that the optimiser sees, that on the cell included."""
    converged: bool

    @property
    def finite(self) -> bool:
        """Return whether the optimiser can go on from here."""
        return bool(np.isfinite(self.energy) and np.isfinite(self.forces).all() and np.isfinite(self.fmax))

    def bits(self) -> bytes:
        """Return every bit that decides where the optimiser goes from here."""
        parts = (self.positions, self.cell, self.energy, self.forces, self.stress, self.fmax)
        return b"".join(np.ascontiguousarray(part, "<f8").tobytes() for part in parts)


@dataclass(frozen=True)
class Trajectory:
    """All frames of a run, one array for each quantity."""

    positions: Floats
    cells: Floats
    energies: Floats
    forces: Floats
    stresses: Floats
    fmaxes: Floats
    converged: np.ndarray[Any, np.dtype[np.bool_]]

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> "Trajectory":
        """Return the frames of a run, at least one, in their order."""
        return cls(
            np.array([frame.positions for frame in frames], np.float64),
            np.array([frame.cell for frame in frames], np.float64),
            np.array([frame.energy for frame in frames], np.float64),
            np.array([frame.forces for frame in frames], np.float64),
            np.array([frame.stress for frame in frames], np.float64),
            np.array([frame.fmax for frame in frames], np.float64),
            np.array([frame.converged for frame in frames], np.bool_),
        )

    @classmethod
    def load(cls, path: Path) -> "Trajectory":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as held:
            return cls(**held)

    def save(self, path: Path) -> None:
        """Write every bit of it."""
        np.savez(path, **self.arrays())

    def arrays(self) -> dict[str, Any]:
        """Return what it is made of, by name."""
        return vars(self)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that it was made of."""
        for at in range(len(self)):
            yield Frame(
                self.positions[at],
                self.cells[at],
                float(self.energies[at]),
                self.forces[at],
                self.stresses[at],
                float(self.fmaxes[at]),
                bool(self.converged[at]),
            )

    def __len__(self) -> int:
        return len(self.energies)

    def digest(self) -> str:
        """Return SHA-256 over positions, cell, energy and forces of every frame in turn, as little-endian float64."""
        found = hashlib.sha256()
        for parts in zip(self.positions, self.cells, self.energies, self.forces, strict=True):
            for part in parts:
                found.update(np.ascontiguousarray(part, "<f8").tobytes())
        return found.hexdigest()


@dataclass
class Comparison:
    """What doing all runs once more has shown so far."""

    how: str
    frames: int = 0
    positions: float = 0.0
    energy: float = 0.0
    forces: float = 0.0
    parts_in: str | None = None
    parts_at: int | None = None

    def add(self, run: str, first: Trajectory, again: Trajectory) -> None:
        """Compare one run. Where one of the two has no more frames they part, if not before."""
        both = min(len(first), len(again))
        self.frames += both
        self.positions = max(self.positions, _largest(first.positions[:both], again.positions[:both]))
        self.energy = max(self.energy, _largest(first.energies[:both], again.energies[:both]))
        self.forces = max(self.forces, _largest(first.forces[:both], again.forces[:both]))
        at = _parting(first, again, both)
        if at is not None and self.parts_in is None:
            self.parts_in, self.parts_at = run, at

    def told(self) -> Repeat:
        """Return it as the report has it."""
        return Repeat(
            how=self.how,
            identical=self.parts_in is None,
            frames=self.frames,
            positions=self.positions,
            energy=self.energy,
            forces=self.forces,
            parts_in=self.parts_in,
            parts_at=self.parts_at,
        )


def _parting(first: Trajectory, again: Trajectory, both: int) -> int | None:
    """Return the first frame whose bits differ; None when there is none."""
    for at in range(both):
        pairs = (
            (first.positions[at], again.positions[at]),
            (first.cells[at], again.cells[at]),
            (first.energies[at], again.energies[at]),
            (first.forces[at], again.forces[at]),
        )
        if any(one.tobytes() != other.tobytes() for one, other in pairs):
            return at
    return both if len(first) != len(again) else None


def _largest(one: Floats, other: Floats) -> float:
    """Return the largest difference; where both are not finite they are alike."""
    difference = np.abs(one - other)
    return float(np.nanmax(difference, initial=0.0))
