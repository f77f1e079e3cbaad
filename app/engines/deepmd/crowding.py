"""Whether atoms have room at all. Looked at before anybody lists neighbours: of atoms without room there is no end of them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from app.engines.deepmd.structures import Structure
from app.wire.relaxing import Finding

LEAST_VOLUME_A3 = 0.5
"""Of a cell, for each atom. Solid hydrogen takes more than 1 Å³ an atom at any pressure that was ever reached."""
LEAST_HEIGHT_A = 0.1
"""Of a cell, in its shortest direction: below, an atom has a hundred images of itself within a bond."""
MOST_IN_CUBE = 16
"""Atoms in a cube with edges of 1 Å. Two fit, if they are hydrogens."""


def findings(structure: Structure) -> Iterator[Finding]:
    """Yield a refusal where atoms cannot have room. The cell has to have a volume."""
    cell = np.array(structure.cell) if structure.cell else None
    if cell is not None:
        yield from _small(structure, cell)
    yield from _crowd(structure, cell)


def _small(structure: Structure, cell: Any) -> Iterator[Finding]:
    atoms, volume = len(structure.symbols), abs(float(np.linalg.det(cell)))
    height = float((1 / np.linalg.norm(np.linalg.inv(cell), axis=0)).min())
    if volume < LEAST_VOLUME_A3 * atoms:
        message = f"the cell has {volume / atoms:.2g} Å³ for each of {atoms} atoms: no matter is that dense"
        yield _refusal(message)
    elif height < LEAST_HEIGHT_A:
        yield _refusal(f"the cell is {height:.2g} Å high in its shortest direction: no atom fits in")


def _crowd(structure: Structure, cell: Any) -> Iterator[Finding]:
    places = np.array(structure.positions)
    if cell is not None:
        places = (places @ np.linalg.inv(cell) % 1.0) @ cell
    _, first, counts = np.unique(np.floor(places), axis=0, return_index=True, return_counts=True)
    most = int(counts.argmax())
    if counts[most] > MOST_IN_CUBE:
        atom = int(first[most])
        message = f"{counts[most]} atoms are within 1 Å³, atom {atom} ({structure.symbols[atom]}) among them"
        yield _refusal(message)


def _refusal(message: str) -> Finding:
    return Finding(code="too-dense", message=message, refused=True)
