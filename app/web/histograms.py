"""Histograms of a dataset's summary as bars of an SVG."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    """Counts over equally wide bins."""

    kind: str
    """`energy` or `force`."""
    title: str
    unit: str
    low: float
    high: float
    total: int
    bars: tuple[Bar, ...]


def draw(kind: str, title: str, unit: str, data: Any) -> Histogram | None:
    """Return the drawing of `{"edges": […], "counts": […]}`, equally wide bins; None for anything else."""
    if not isinstance(data, Mapping) or not data.get("counts") or not data.get("edges"):
        return None
    counts = [int(number) for number in data["counts"]]
    low, high = float(data["edges"][0]), float(data["edges"][-1])
    return Histogram(kind, title, unit, low, high, sum(counts), tuple(_bars(counts, low, high, unit)))


def _bars(counts: list[int], low: float, high: float, unit: str) -> list[Bar]:
    top = max(counts) or 1
    width = WIDTH / len(counts)
    step = (high - low) / len(counts)
    return [
        Bar(
            x=round(index * width + 0.5, 2),
            y=round(HEIGHT - height, 2),
            width=round(max(width - 1, 0.5), 2),
            height=round(height, 2),
            words=f"{low + index * step:.4g} to {low + (index + 1) * step:.4g} {unit}: {number:,}",
        )
        for index, number in enumerate(counts)
        # A bin with a single frame among millions must still be seen.
        for height in [max(number / top * (HEIGHT - 4), 2.0) if number else 0.0]
    ]
