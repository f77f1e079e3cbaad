"""What is computed of a structure otherwise than its file says: images in every direction, and no constraint but fixed atoms."""

from collections.abc import Iterator

import numpy as np

from app.engines.deepmd.structures import Structure
from app.wire.relaxing import Finding

PARTLY_PERIODIC = "partly-periodic"


def findings(structure: Structure) -> Iterator[Finding]:
    """Yield what is assumed of a structure whose cell has a volume. None of it is refused by itself."""
    for name in dict.fromkeys(structure.constraints_left_out):
        message = f"the constraint {name} of its file does not hold here: only fixed atoms are held"
        yield Finding(code="constraint-left-out", message=message, refused=False)
    for direction in structure.without_images:
        empty = _empty(structure, "abc".index(direction))
        message = (
            f"its file has no images along {direction}, but a model has them in all directions: "
            f"{empty:.1f} Å are empty between the atoms and their images"
        )
        yield Finding(code=PARTLY_PERIODIC, message=message, refused=False, distance=round(empty, 6))


def _empty(structure: Structure, axis: int) -> float:
    """Return the widest layer without atoms across a direction of the cell, in Å."""
    inverse = np.linalg.inv(np.array(structure.cell))
    heights = 1 / np.linalg.norm(inverse, axis=0)
    places = np.sort((np.array(structure.positions) @ inverse)[:, axis] % 1.0)
    return float(np.diff(places, append=places[0] + 1.0).max() * heights[axis])
