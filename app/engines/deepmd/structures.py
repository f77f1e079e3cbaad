"""Structures without labels: one form for all that is relaxed, exact to the last bit, whatever file it came in."""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, model_validator

from app.wire.base import Message

FILE = "structures.json"
"""The one file of a dataset of structures."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$"


FARTHEST_A = 1e6
"""From the origin. A tenth of a millimetre: farther away, cells of neighbours overflow."""
Length = Annotated[FiniteFloat, Field(ge=-FARTHEST_A, le=FARTHEST_A)]
Vector = tuple[Length, Length, Length]


class Structure(Message):
    """Atoms in a cell. Lengths in Å; atoms are counted from 0, in the order of the file that they came in."""

    name: str = Field(pattern=NAME)
    symbols: list[str] = Field(min_length=1, max_length=100_000)
    positions: list[Vector]
    cell: list[Vector] | None = Field(
        default=None, min_length=3, max_length=3, description="Three vectors; left out: no periodic images."
    )
    fixed: list[int] = Field(default=[], description="Atoms that stay where they are.")
    without_images: list[Literal["a", "b", "c"]] = Field(
        default=[],
        max_length=2,
        description="Directions of the cell along which its file had no images: here are some.",
    )
    constraints_left_out: list[str] = Field(
        default=[], max_length=1000, description="Constraints of its file, by ASE's names, that do not hold here."
    )

    @model_validator(mode="after")
    def _fits(self) -> "Structure":
        if len(self.positions) != len(self.symbols):
            raise ValueError(f"has {len(self.symbols)} symbols, but {len(self.positions)} positions")
        if any(not 0 <= index < len(self.symbols) for index in self.fixed):
            raise ValueError(f"`fixed` counts atoms from 0 to {len(self.symbols) - 1}")
        if self.without_images and self.cell is None:
            raise ValueError("`without_images` is of a cell, and there is none")
        return self

    @property
    def formula(self) -> str:
        """Return how many atoms of each element there are: `H2O`, in the order of the alphabet."""
        return formula(self.symbols)


def formula(symbols: list[str]) -> str:
    """Return how many atoms of each element there are, in the order of the alphabet: `H2O`."""
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in sorted(Counter(symbols).items()))


class Structures(Message):
    """The content of a dataset of structures."""

    structures: list[Structure]


def to_atoms(structure: Structure) -> Any:
    """Return the structure as ASE's Atoms."""
    from ase import Atoms, constraints

    fix: Any = constraints.FixAtoms
    fixed = [fix(indices=structure.fixed)] if structure.fixed else []
    cell, pbc = (structure.cell, True) if structure.cell else (None, False)
    return Atoms(structure.symbols, positions=structure.positions, cell=cell, pbc=pbc, constraint=fixed)
