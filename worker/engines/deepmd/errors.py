"""What a test counts: labels beside predictions, their errors by element and frame, points and histograms for plots."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.wire.measuring import ErrorHistogram, ParityPlot

Array = np.ndarray[Any, np.dtype[Any]]

CELLS = 96
"""Side of the grid that thins the points of a parity plot: at most one point of each cell is drawn, with its weight."""
BINS = 61
"""Of a histogram; odd, so that the middle one is around zero."""
SHOWN = 0.999
"""Share of the errors within a histogram's range; the few beyond are counted in its outermost bins."""


@dataclass(frozen=True)
class Pair:
    """A label and what the model says, of equal shape."""

    label: Array
    predicted: Array

    @property
    def error(self) -> Array:
        """Return predicted minus label."""
        difference: Array = self.predicted - self.label
        return difference


@dataclass(frozen=True)
class Batch:
    """Some consecutive frames of a system, evaluated. None: there is no such label."""

    system: str
    first: int
    """Number of the first frame in its system, from 0."""
    symbols: Array
    """(frames, atoms): element of each atom, empty for the virtual ones that fill up mixed systems."""
    coord: Array
    """(frames, atoms, 3) in Å."""
    cell: Array | None
    """(frames, 3, 3) in Å; None: not periodic."""
    energy: Pair | None
    """(frames,) in eV."""
    force: Pair | None
    """(frames, atoms, 3) in eV/Å."""
    virial: Pair | None
    """(frames, 9) in eV."""

    @property
    def frames(self) -> int:
        """Return how many frames these are."""
        return int(self.coord.shape[0])

    @property
    def atoms(self) -> int:
        """Return how many atoms DeePMD-kit counts in a frame."""
        return int(self.coord.shape[1])

    def compared(self) -> dict[str, Pair]:
        """Return what plots show, by quantity: energies and virials per atom, components of forces."""
        scaled = {"energy": self.energy, "virial": self.virial}
        found = {
            name: Pair(pair.label / self.atoms, pair.predicted / self.atoms) for name, pair in scaled.items() if pair
        }
        return found | ({"force": self.force} if self.force else {})


@dataclass(frozen=True)
class Error:
    """The error of one quantity in one frame, and of how many numbers it is the mean."""

    mae: float
    rmse: float
    count: int


@dataclass
class Sums:
    """A mean absolute error and a root mean square error in the making."""

    count: int = 0
    absolute: float = 0.0
    squares: float = 0.0

    def add(self, error: Array) -> None:
        """Count every number of an array."""
        self.count += error.size
        self.absolute += float(np.abs(error).sum())
        self.squares += float((error * error).sum())

    def put(self, error: Error) -> None:
        """Count the numbers that an error is the mean of."""
        self.count += error.count
        self.absolute += error.mae * error.count
        self.squares += error.rmse**2 * error.count

    @property
    def mae(self) -> float:
        """Return the mean of the absolute values."""
        return self.absolute / self.count

    @property
    def rmse(self) -> float:
        """Return the root of the mean square."""
        return float(np.sqrt(self.squares / self.count))


@dataclass(frozen=True)
class FrameErrors:
    """How wrong one frame is. None: there is no such label."""

    energy: Error | None
    """|ΔE| per atom, in eV."""
    force: Error | None
    """Of the components, in eV/Å."""
    virial: Error | None
    """Of the components per atom, in eV."""
    largest: float | None
    """Length of the largest error of an atom's force, in eV/Å."""
    atom: int | None
    """Which atom that is, from 0."""

    def items(self) -> Iterator[tuple[str, Error]]:
        """Yield what there is, under the letters that metrics have: e, f, v."""
        for letter, found in (("e", self.energy), ("f", self.force), ("v", self.virial)):
            if found is not None:
                yield letter, found


def by_frame(batch: Batch) -> Iterator[FrameErrors]:
    """Yield the errors of each frame."""
    lengths = np.linalg.norm(batch.force.error, axis=-1) if batch.force else None
    for index in range(batch.frames):
        yield FrameErrors(
            energy=_mean(batch.energy.error[index] / batch.atoms) if batch.energy else None,
            force=_mean(batch.force.error[index]) if batch.force else None,
            virial=_mean(batch.virial.error[index] / batch.atoms) if batch.virial else None,
            largest=float(lengths[index].max()) if lengths is not None else None,
            atom=int(lengths[index].argmax()) if lengths is not None else None,
        )


def _mean(error: Array) -> Error:
    return Error(float(np.mean(np.abs(error))), float(np.sqrt(np.mean(error * error))), int(np.size(error)))


def add_by_element(sums: dict[str, Sums], batch: Batch) -> None:
    """Count the errors of forces under the element of their atom."""
    if batch.force is None:
        return
    for element in np.unique(batch.symbols):
        if element:
            sums.setdefault(str(element), Sums()).add(batch.force.error[batch.symbols == element])


@dataclass
class Points:
    """Labels and predictions of one quantity, gathered for a plot in single precision."""

    parts: list[tuple[Array, Array]] = field(default_factory=list)

    def add(self, pair: Pair) -> None:
        """Keep every number of a pair."""
        self.parts.append((pair.label.ravel().astype(np.float32), pair.predicted.ravel().astype(np.float32)))

    def plot(self, title: str, unit: str) -> ParityPlot:
        """Return thinned points and a histogram of the errors; what is not finite is left out and counted."""
        label, predicted = (np.concatenate(arrays).astype(float) for arrays in zip(*self.parts, strict=True))
        finite = np.isfinite(label) & np.isfinite(predicted)
        return ParityPlot(
            title=title,
            unit=unit,
            count=label.size,
            not_finite=int((~finite).sum()),
            points=thinned(label[finite], predicted[finite]),
            histogram=histogram((predicted - label)[finite]),
        )


def thinned(label: Array, predicted: Array) -> list[tuple[float, float, int]]:
    """Return one point of each cell of a grid over all, with how many lie in it: `[label, predicted, count]`."""
    if not label.size:
        return []
    places = [_places(label), _places(predicted)]
    _, first, counts = np.unique(places[0] * CELLS + places[1], return_index=True, return_counts=True)
    return [
        (float(f"{label[at]:.6g}"), float(f"{predicted[at]:.6g}"), int(count))
        for at, count in zip(first, counts, strict=True)
    ]


def _places(values: Array) -> Array:
    low, high = values.min(), values.max()
    share = (values - low) / (high - low) if high > low else np.zeros_like(values)
    places: Array = np.minimum((share * CELLS).astype(np.int64), CELLS - 1)
    return places


def histogram(error: Array) -> ErrorHistogram:
    """Return how often errors of each size occur, symmetrically around zero."""
    if not error.size:
        return ErrorHistogram(half=0.0, counts=[])
    half = float(np.quantile(np.abs(error), SHOWN)) or 1e-12
    counts, _ = np.histogram(np.clip(error, -half, half), bins=BINS, range=(-half, half))
    return ErrorHistogram(half=half, counts=counts.tolist())


def finite(value: float | None) -> float | None:
    """Return a number that JSON can write, or None."""
    return value if value is not None and np.isfinite(value) else None
