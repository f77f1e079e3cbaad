"""Histograms of a dataset's summary as bars of an SVG."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.web.formats import energy
from app.wire import datasets as wire

WIDTH = 600
HEIGHT = 130


@dataclass(frozen=True)
class Bar:
    """One bar, in the units of the drawing."""

    x: float
    y: float
    width: float
    height: float
    words: str
    """What the bar stands for, shown when the pointer rests on it."""


@dataclass(frozen=True)
class Histogram:
    """Counts over bins."""

    kind: str
    """`energy`, `force` or `length`: decides the colour."""
    title: str
    unit: str
    low: float
    high: float
    total: int
    bars: tuple[Bar, ...]

    @property
    def ends(self) -> tuple[str, str]:
        """Return what stands at both ends of the axis: lengths are whole numbers, energies differ late in their digits."""
        return (
            (f"{self.low:,.0f}", f"{self.high:,.0f}")
            if self.kind == "length"
            else (energy(self.low), energy(self.high))
        )


def draw(kind: str, title: str, unit: str, data: Any) -> Histogram | None:
    """Return the drawing of `{"edges": […], "counts": […]}`, each bin as wide as the others; None for anything else."""
    data = data.model_dump() if isinstance(data, wire.Histogram) else data
    if not isinstance(data, Mapping) or not data.get("counts") or not data.get("edges"):
        return None
    counts, edges = [int(number) for number in data["counts"]], [float(edge) for edge in data["edges"]]
    return Histogram(kind, title, unit, edges[0], edges[-1], sum(counts), tuple(_bars(counts, edges, unit)))


def _bars(counts: list[int], edges: list[float], unit: str) -> list[Bar]:
    top = max(counts) or 1
    width = WIDTH / len(counts)
    return [
        Bar(
            x=round(index * width + 0.5, 2),
            y=round(HEIGHT - height, 2),
            width=round(max(width - 1, 0.5), 2),
            height=round(height, 2),
            words=f"{edges[index]:.4g} to {edges[index + 1]:.4g} {unit}: {number:,}",
        )
        for index, number in enumerate(counts)
        # A bin with a single frame among millions must still be seen.
        for height in [max(number / top * (HEIGHT - 4), 2.0) if number else 0.0]
    ]
