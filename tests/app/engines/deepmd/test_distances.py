"""Distances between atoms of a frame: those that ASE's neighbour list finds, images included."""

from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest

from app.engines.deepmd import distances
from app.engines.deepmd.distances import CUTOFF_A, Measuring
from app.engines.deepmd.structures import Structure, to_atoms
from app.wire.datasets import Distances

CUBE, SKEWED, THIN = np.eye(3) * 7.0, np.array([[9.0, 0, 0], [4.0, 6, 0], [-3.0, 2, 5]]), np.diag([2.1, 9.0, 14.0])


def structure(symbols: str, cell: Any, *, seed: int = 0, width: float = 20.0) -> Structure:
    """Return atoms anywhere, also outside of their cell."""
    places = np.random.default_rng(seed).uniform(-width / 2, width, (len(symbols), 3))
    return Structure(
        name="s", symbols=list(symbols), positions=places.tolist(), cell=None if cell is None else cell.tolist()
    )


def by_ase(one: Structure) -> dict[tuple[int, int], float]:
    """Return the distance of every two atoms within the cutoff, of their nearest images."""
    from ase import neighborlist

    find: Any = neighborlist.neighbor_list
    found: dict[tuple[int, int], float] = {}
    for i, j, d in zip(*find("ijd", to_atoms(one), CUTOFF_A), strict=True):
        found[i, j] = min(d, found.get((i, j), np.inf))
    return found


@pytest.mark.parametrize(
    "cell", [None, CUBE, SKEWED, SKEWED[::-1], THIN], ids=["none", "cube", "skewed", "left", "thin"]
)
@pytest.mark.parametrize("symbols", ["O", "OH", "HOHHOFF", "HHHHHHHHHHHHOOOOOOC"])
def test_they_are_those_of_ases_neighbour_list(symbols: str, cell: Any) -> None:
    for seed in range(5):
        one = structure(symbols, cell, seed=seed)
        found, theirs = distances.of_structure(one), by_ase(one)
        for two in combinations_with_replacement(sorted(set(symbols)), 2):
            every = [d for (i, j), d in theirs.items() if (symbols[i], symbols[j]) == two]
            name = "-".join(two)
            assert found.nearest.get(name) == (pytest.approx(min(every), abs=1e-4) if every else None)
            if every:
                i, j = found.atoms[name]
                assert (symbols[i], symbols[j], theirs[i, j]) == (*two, pytest.approx(min(every), abs=1e-4))
        alone = [min((d for (i, _), d in theirs.items() if i == atom), default=None) for atom in range(len(symbols))]
        for element in set(symbols):
            own = [distance for symbol, distance in zip(symbols, alone, strict=True) if symbol == element]
            largest = None if None in own else pytest.approx(max(own), abs=1e-4)
            assert found.farthest[element] == largest


def test_frames_are_put_together() -> None:
    found = Measuring()
    for gap in (1.2, 0.9, 1.5):
        found.add(np.array([[0.0, 0, 0], [gap, 0, 0]]), None, np.array(["O", "H"]))
    assert found.found() == Distances(cutoff=6.0, frames=3, nearest={"H-O": 0.9}, farthest={"H": 1.5, "O": 1.5})
    found.add(np.array([[0.0, 0, 0]]), None, np.array(["O"]))
    found.add(np.array([[0.0, 0, 0], [0.0, 0, 0]]), None, np.array(["H", "H"]))
    last = found.found()
    assert (last.nearest["H-H"], last.farthest) == (0.0, {"H": 1.5, "O": None})


def test_a_cell_far_smaller_than_atoms_costs_nothing() -> None:
    found = Measuring()
    found.add(np.zeros((1, 3)), np.eye(3) * 0.01, np.array(["H"]))
    assert found.frames == 0
