"""Which runs ended in the same minimum: equal energies, and equal distances between atoms, however these are numbered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, neighborlist

from app.wire.relaxing import Minimum

SAME_ENERGY = 1e-3
"""In eV per atom."""
SAME_SHAPE = 0.1
"""Relative distance of two fingerprints. Distances that all differ by 0.014 Å are so far apart."""
CUTOFF_A, WIDTH_A, GRID_A = 6.0, 0.1, 0.05


@dataclass(frozen=True)
class End:
    """Where a run ended."""

    run: str
    model: str
    formula: str
    atoms: Atoms
    energy: float


def ranked(ends: Sequence[End]) -> list[Minimum]:
    """Return the minima of every model and composition, the lowest of each first."""
    found: list[Minimum] = []
    for model, formula in dict.fromkeys((end.model, end.formula) for end in ends):
        group = sorted(
            (end for end in ends if (end.model, end.formula) == (model, formula)), key=lambda end: end.energy
        )
        for rank, members in enumerate(_clustered(group), 1):
            energy = members[0].energy
            above = (energy - group[0].energy) / len(members[0].atoms)
            runs = [end.run for end in members]
            found.append(Minimum(model=model, formula=formula, rank=rank, energy=energy, above=above, runs=runs))
    return found


def _clustered(ends: Sequence[End]) -> list[list[End]]:
    """Put each end, from the lowest, to the first minimum whose lowest end it equals."""
    clusters: list[tuple[Any, list[End]]] = []
    for end in ends:
        shape = fingerprint(end.atoms)
        for other, members in clusters:
            near = end.energy - members[0].energy < SAME_ENERGY * len(end.atoms)
            if near and difference(shape, other) < SAME_SHAPE:
                members.append(end)
                break
        else:
            clusters.append((shape, [end]))
    return [members for _, members in clusters]


def fingerprint(atoms: Atoms) -> Any:
    """Return how many pairs of each two elements are how far apart, images included: one row of a grid for each two.

    Each distance is a Gaussian that fades out towards the cutoff, so that none appears or vanishes at once. The same
    whatever the order of the atoms, the origin and the orientation.
    """
    find: Any = neighborlist.neighbor_list
    i, j, d = find("ijd", atoms, CUTOFF_A)
    numbers = atoms.numbers
    elements = np.unique(numbers)
    grid = np.arange(0.0, CUTOFF_A, GRID_A)
    rows = []
    for a, b in ((a, b) for a in elements for b in elements if a <= b):
        near = d[(numbers[i] == a) & (numbers[j] == b)]
        fade = 0.5 * (1 + np.cos(np.pi * near / CUTOFF_A))
        rows.append(np.exp(-0.5 * ((grid[:, None] - near) / WIDTH_A) ** 2) @ fade)
    return np.array(rows) / len(atoms)


def difference(one: Any, other: Any) -> float:
    """Return by how much two fingerprints of one composition differ, relative to the larger."""
    size = max(np.linalg.norm(one), np.linalg.norm(other))
    return float(np.linalg.norm(one - other) / size) if size else 0.0
