"""Which frames of systems are looked at for the distances between their atoms: evenly spread, the same every time."""

from collections.abc import Iterator, Sequence

import numpy as np

from app.engines.deepmd.distances import Array, Measuring
from app.engines.deepmd.intake.systems import System
from app.wire.datasets import Distances

MOST_FRAMES = 500
MOST_ATOMS = 50_000
"""Of all frames that are looked at: together less than half a second of work."""
MOST_SYSTEMS = 500
"""Of more systems the distances are kept together: lists of datasets carry every summary."""


def distances(systems: Sequence[System]) -> dict[str, Distances]:
    """Return the distances in each system; of very many systems those in all, under an empty name."""
    together = Measuring() if len(systems) > MOST_SYSTEMS else None
    found: dict[str, Measuring] = {}
    for system, count in zip(systems, _counts(systems), strict=True):
        name = "" if together else system.name
        one = found.setdefault(name, together or Measuring())
        for frame in _frames(system, count):
            one.add(*frame)
    return {name: one.found() for name, one in found.items()}


def _counts(systems: Sequence[System]) -> Iterator[int]:
    """Yield how many frames of each system are looked at: one at least, unless there are too many systems for that."""
    frames = sum(system.frames for system in systems)
    atoms = sum(system.frames * system.atoms for system in systems)
    share = min(1.0, MOST_FRAMES / frames, MOST_ATOMS / atoms)
    least = int(len(systems) <= MOST_FRAMES and sum(system.atoms for system in systems) <= MOST_ATOMS)
    due = 0.0
    for system in systems:
        due += share * system.frames
        count = min(system.frames, max(least, int(due)))
        due = max(0.0, due - count)
        yield count


def _frames(system: System, count: int) -> Iterator[tuple[Array, Array | None, Array]]:
    """Yield coordinates, cell and elements of so many frames, evenly spread over the system."""
    chosen = np.unique(np.linspace(0, system.frames - 1, count).round().astype(int)) if count else np.empty(0, int)
    names, first = np.array(system.type_map), 0
    for path in system.sets:
        coord, box, kinds = (_rows(system, f"{path.name}/{stem}.npy") for stem in ("coord", "box", "real_atom_types"))
        assert coord is not None, "every set has coordinates"
        for row in chosen[(chosen >= first) & (chosen < first + len(coord))] - first:
            types = np.array(system.types) if kinds is None else np.asarray(kinds[row]).ravel()
            real = types >= 0  # frames of mixed systems are filled up with atoms that are none
            cell = np.reshape(box[row], (3, 3)).astype(float) if system.periodic and box is not None else None
            yield np.reshape(coord[row], (-1, 3))[real].astype(float), cell, names[types[real].astype(int)]
        first += len(coord)


def _rows(system: System, name: str) -> Array | None:
    """Return an array of a system, mapped: only the rows that are looked at are read."""
    array = system.arrays.get(name)
    return np.load(array.path, mmap_mode="r", allow_pickle=False) if array else None
