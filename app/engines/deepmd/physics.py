"""Whether a structure can be one: what of it no atoms do. Without torch, so that it is said before a job is queued.

Models give energies and forces of anything. DeePMD-kit's issue 4502 is a relaxation that began with two hydrogens 0.34 Å
apart: forces of hundreds of eV/Å, whose last bits decide where the atoms go.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from app.engines.deepmd import assumed, crowding
from app.engines.deepmd.structures import Structure, to_atoms
from app.wire.relaxing import Finding

OVERLAP = 0.6
"""Of the sum of two covalent radii (Cordero et al. 2008, as in `ase.data`). The shortest bonds there are, of H2, N2 and
the alkali halides, are above 0.75; atoms nearer than this are no compressed bond either."""
CLOSE = 0.75
SAME_PLACE_A = 0.05
HOPELESS = {
    "no-element": "Name elements by their symbols, such as Cu.",
    "flat-cell": "Lengths are in Å: give three vectors that span a volume, or no cell at all.",
    "too-dense": "Lengths are in Å and positions Cartesian: are these fractions of the cell, or nanometres?",
    "element-not-in-type-map": "Name a model that knows it.",
}
"""Findings with which nothing can be computed, whatever one wants, and what to do about each."""
FLAT = 1e-4
"""Volume of a cell by the product of its edges below which it is none."""
MOST = 50
"""Findings about distances of one structure: the nearest pairs."""


def findings(structure: Structure) -> list[Finding]:
    """Return what is odd about a structure whatever the model: elements, numbers, cell, distances."""
    unknown = list(_unknown_elements(structure))
    broken = unknown + (list(_flat_cell(structure)) if structure.cell else [])
    broken = broken or list(crowding.findings(structure))
    return broken or [*assumed.findings(structure), *islice(_distances(structure), MOST)]


def is_hopeless(found: Sequence[Finding]) -> bool:
    """Return whether nothing can be computed of a structure with these findings."""
    return any(each.code in HOPELESS for each in found)


def of_model(
    structure: Structure, type_map: list[str], cutoff: float, sel: list[int], shortest: float | None
) -> Iterator[Finding]:
    """Yield what is odd about a sane structure for one model.

    `cutoff` is the model's, `shortest` the shortest distance of atoms in its training data if it knows, both in Å.
    `sel` is how many neighbours it takes: of each of its types, or one number for all of them together.
    """
    yield from not_in(structure, type_map)
    if structure.cell:
        yield from _small_cell(np.array(structure.cell), cutoff)
    i, j, d = _pairs(structure, cutoff)
    nearest = np.full(len(structure.symbols), np.inf)
    np.minimum.at(nearest, i, d)
    for atom in np.flatnonzero(np.isinf(nearest))[:MOST] if len(nearest) > 1 else ():
        message = f"{_atom(structure, int(atom))} has no other atom within the model's cutoff of {cutoff:g} Å"
        yield _finding(structure, "atom-alone", message, [int(atom)], limit=cutoff)
    yield from _left_out(structure, type_map, sel, i, j)
    if shortest:
        near = sorted((round(float(d[n]), 6), int(i[n]), int(j[n])) for n in np.flatnonzero((d < shortest) & (i <= j)))
        pairs = {(one, other): distance for distance, one, other in reversed(near)}
        for (one, other), distance in sorted(pairs.items(), key=lambda item: (item[1], item[0]))[:MOST]:
            message = (
                f"{_pair(structure, one, other)} are {distance:.3f} Å apart: nearer than any two atoms "
                f"of the training data ({shortest:.3f} Å)"
            )
            yield _finding(structure, "outside-training", message, [one, other], distance=distance, limit=shortest)


def _left_out(structure: Structure, type_map: list[str], sel: list[int], i: Any, j: Any) -> Iterator[Finding]:
    """Yield the atom with the most neighbours of each type of which a model takes fewer.

    DeePMD-kit (3.2.0, `pt/utils/nlist.py`) drops the farthest without a word, so that energies jump where these change
    places: such a structure may never converge.
    """
    by_type = len(sel) == len(type_map)
    types = np.array([type_map.index(one) if one in type_map else -1 for one in structure.symbols])
    for number, most in enumerate(sel):
        counts = np.bincount(i[types[j] == number] if by_type else i, minlength=len(types))
        atom = int(counts.argmax())
        if counts[atom] > most:
            of = f" of {type_map[number]}" if by_type else ""
            message = (
                f"{_atom(structure, atom)} has {counts[atom]} neighbours{of} within the model's cutoff, which takes "
                f"{most} (`sel`): the farthest are left out, and energies jump where these change places"
            )
            yield _finding(structure, "more-than-sel", message, [atom])


def not_in(structure: Structure, type_map: list[str]) -> Iterator[Finding]:
    """Yield a refusal for each element that the model does not know."""
    for symbol in sorted(set(structure.symbols) - set(type_map)):
        atoms = [index for index, one in enumerate(structure.symbols) if one == symbol][:MOST]
        message = f"{symbol} is not in the model's type map ({', '.join(type_map)})"
        yield _finding(structure, "element-not-in-type-map", message, atoms, refused=True)


def _unknown_elements(structure: Structure) -> Iterator[Finding]:
    from ase.data import atomic_numbers

    for index, symbol in enumerate(structure.symbols):
        if not atomic_numbers.get(symbol):
            yield Finding(code="no-element", message=f"atom {index} is {symbol!r}, which is no element", refused=True,
                          atoms=[index], elements=[symbol])  # fmt: skip


def _flat_cell(structure: Structure) -> Iterator[Finding]:
    cell = np.array(structure.cell)
    volume, edges = abs(np.linalg.det(cell)), np.linalg.norm(cell, axis=1).prod()
    if not FLAT * edges < volume < np.inf:  # NaN counts as flat
        message = f"the cell has a volume of {volume:.3g} Å³: no periodic structure fits in"
        yield Finding(code="flat-cell", message=message, refused=True)


def _small_cell(cell: Any, cutoff: float) -> Iterator[Finding]:
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    if heights.min() < cutoff:
        message = (
            f"the cell is {heights.min():.2f} Å high in its shortest direction, the model's cutoff is {cutoff:g} Å: "
            "atoms feel images of themselves, which DeePMD-kit counts correctly"
        )
        yield Finding(code="cell-below-cutoff", message=message, refused=False, distance=heights.min(), limit=cutoff)


def _distances(structure: Structure) -> Iterator[Finding]:
    """Yield the pairs that are too near each other, the nearest by their radii first."""
    from ase.data import atomic_numbers, covalent_radii

    radii = np.array([covalent_radii[atomic_numbers[symbol]] for symbol in structure.symbols])
    i, j, d = _pairs(structure, CLOSE * 2 * float(radii.max()))
    ratio = d / (radii[i] + radii[j])
    wanted = np.flatnonzero((i <= j) & ((ratio < CLOSE) | (d < SAME_PLACE_A)))
    seen: set[tuple[int, int]] = set()
    for n in wanted[np.argsort(ratio[wanted].round(6), kind="stable")]:
        one, other = int(i[n]), int(j[n])
        if (one, other) not in seen:  # several images of one pair say the same
            seen.add((one, other))
            yield _near(structure, one, other, float(d[n]), float(radii[one] + radii[other]))


def _near(structure: Structure, one: int, other: int, distance: float, radii: float) -> Finding:
    pair = _pair(structure, one, other)
    if distance < SAME_PLACE_A:
        message = f"{pair} are at the same place ({distance:.3f} Å apart)"
        return _finding(
            structure, "same-place", message, [one, other], refused=True, distance=distance, limit=SAME_PLACE_A
        )
    share = f"{distance / radii:.2f} of the sum of their covalent radii, {radii:.2f} Å"
    overlap = distance < OVERLAP * radii
    code, limit = ("atoms-overlap", OVERLAP * radii) if overlap else ("atoms-close", CLOSE * radii)
    message = f"{pair} are {distance:.3f} Å apart: {share}"
    return _finding(structure, code, message, [one, other], refused=overlap, distance=distance, limit=limit)


def _pairs(structure: Structure, cutoff: float) -> tuple[Any, Any, Any]:
    """Return first and second atom and the distance of all pairs nearer than `cutoff`, images included."""
    from ase import neighborlist

    find: Any = neighborlist.neighbor_list
    i, j, d = find("ijd", to_atoms(structure), cutoff)
    return i, j, d


def _atom(structure: Structure, index: int) -> str:
    return f"atom {index} ({structure.symbols[index]})"


def _pair(structure: Structure, one: int, other: int) -> str:
    if one == other:
        return f"{_atom(structure, one)} and its own image"
    return f"atoms {one} ({structure.symbols[one]}) and {other} ({structure.symbols[other]})"


def _finding(
    structure: Structure, code: str, message: str, atoms: list[int], *, refused: bool = False,
    distance: float | None = None, limit: float | None = None,
) -> Finding:  # fmt: skip
    elements = [structure.symbols[index] for index in atoms]
    return Finding(
        code=code, message=message, refused=refused, atoms=atoms, elements=elements, distance=distance, limit=limit
    )
