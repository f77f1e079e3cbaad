"""How near each other atoms of two elements come, and how far from all others one of an element is: measured frame by frame."""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from app.engines.deepmd.structures import Structure
from app.wire.datasets import Distances

CUTOFF_A = 6.0
"""So far is looked: most models look no farther."""
MOST_IMAGES = 3_000_000
"""Atoms of a frame and of its images around it: a frame with more, of a cell far smaller than atoms are, is passed over."""

Array = np.ndarray[Any, Any]


@dataclass
class Measuring:
    """What was found in the frames so far."""

    frames: int = 0
    nearest: dict[str, float] = field(default_factory=dict)
    farthest: dict[str, float | None] = field(default_factory=dict)
    atoms: dict[str, list[int]] = field(default_factory=dict)
    """Which atoms these are: of a pair in the order of its name."""

    def add(self, coords: Array, cell: Array | None, symbols: Array) -> None:
        """Look at a frame: coordinates (atoms, 3) and cell (3, 3) in Å, None without one; an element for each atom."""
        images = _images(coords, cell)
        if images is None:
            return
        self.frames += 1
        closest, elements = np.full(len(coords), np.inf), sorted(set(symbols.tolist()))
        for number, element in enumerate(elements):
            distance, other = _nearest_of(images, len(coords), symbols == element)
            np.minimum(closest, distance, out=closest)
            for one in elements[: number + 1]:
                self._pair(one, element, np.flatnonzero(symbols == one), distance, other)
        for element in elements:
            self._alone(element, np.flatnonzero(symbols == element), closest)

    def _pair(self, one: str, other: str, chosen: Array, distance: Array, partner: Array) -> None:
        atom = int(chosen[distance[chosen].argmin()])
        name = pair(one, other)
        if distance[atom] < self.nearest.get(name, np.inf):
            self.nearest[name] = round(float(distance[atom]), 4)
            both = [atom, int(partner[atom])]
            self.atoms[name] = sorted(both) if one == other else both

    def _alone(self, element: str, chosen: Array, closest: Array) -> None:
        atom = int(chosen[closest[chosen].argmax()])
        distance = float(closest[atom]) if np.isfinite(closest[atom]) else None
        known = self.farthest.get(element, 0.0)
        if known is not None and (distance is None or distance > known):
            self.farthest[element] = None if distance is None else round(distance, 4)
            self.atoms[element] = [atom]

    def found(self) -> Distances:
        """Return what was found; with the atoms if it is a single frame, of which they mean something."""
        atoms = self.atoms if self.frames == 1 else {}
        return Distances(cutoff=CUTOFF_A, frames=self.frames, nearest=self.nearest, farthest=self.farthest, atoms=atoms)


def of_structure(structure: Structure) -> Distances:
    """Return the distances in a structure whose elements and cell are sane."""
    found = Measuring()
    cell = np.array(structure.cell) if structure.cell else None
    found.add(np.array(structure.positions), cell, np.array(structure.symbols))
    return found.found()


def pair(one: str, other: str) -> str:
    """Return what the pair of two elements is called: `H-O`."""
    return "-".join(sorted((one, other)))


@dataclass(frozen=True)
class _Images:
    """The atoms of a frame, then all images of them that are within the cutoff of its cell."""

    places: Array
    """(images, 3), in Å."""
    of: Array
    """(images,), which atom each is."""


def _images(coords: Array, cell: Array | None) -> _Images | None:
    """Return the images of a frame's atoms; None when they are too many. The first of them are the atoms themselves."""
    own = np.arange(len(coords))
    if cell is None:
        return _Images(coords, own)
    inverse = np.linalg.inv(cell)
    reach = CUTOFF_A * np.linalg.norm(inverse, axis=0)  # in units of the cell's heights
    steps = np.ceil(reach)
    if not np.prod(2 * steps + 1) * len(coords) < MOST_IMAGES:
        return None
    shifts = np.array([one for one in product(*(np.arange(-most, most + 1) for most in steps)) if any(one)])
    wrapped = coords @ inverse
    wrapped -= np.floor(wrapped)
    every = (wrapped[None] + shifts[:, None]).reshape(-1, 3)
    within = np.all((every > -reach) & (every < 1 + reach), axis=1)
    places = np.concatenate([wrapped, every[within]]) @ cell
    return _Images(places, np.concatenate([own, np.tile(own, len(shifts))[within]]))


def _nearest_of(images: _Images, atoms: int, chosen: Array) -> tuple[Array, Array]:
    """Return the distance of every atom to the nearest other one of those chosen, and which that is; inf beyond the cutoff."""
    from scipy.spatial import cKDTree

    among = np.flatnonzero(chosen[images.of])
    tree = cKDTree(images.places[among])
    distance, found = tree.query(images.places[:atoms], k=2, distance_upper_bound=CUTOFF_A)
    at = np.append(among, -1)[found]  # what is not found is numbered after the last
    rows = np.arange(atoms)
    column = (at[:, 0] == rows).astype(int)  # the first of those that are not itself
    return distance[rows, column], np.append(images.of, -1)[at[rows, column]]
