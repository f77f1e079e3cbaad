"""Parity plots of a test, labels against predictions, and histograms of the errors as SVG."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from app.web.histograms import Histogram, draw
from app.wire.measuring import ModelPlots, ParityPlot

SIDE = 300
"""Of the square that is drawn in, in its own units."""
DENSE = (1, 10)
"""Points that stand for up to so many numbers are drawn faintly, then more firmly, then fully."""
TICKS = 6
"""About so many numbers on each axis; at least a third as many."""


@dataclass(frozen=True)
class Tick:
    """A number on both axes, and how far from the lower left corner it is."""

    at: float
    text: str


@dataclass(frozen=True)
class Parity:
    """One plot. Both axes have one range, so that the diagonal is where a prediction equals its label."""

    title: str
    unit: str
    count: int
    not_finite: int
    layers: tuple[str, ...]
    """What to draw, as SVG paths of dots, the faintest first."""
    ticks: tuple[Tick, ...]
    errors: Histogram | None


@dataclass(frozen=True)
class Plotted:
    """The plots of one model."""

    model: str
    plots: tuple[Parity, ...]


def plotted(found: ModelPlots) -> Plotted:
    """Return the drawings of a model's plots; of what has no finite number there is none."""
    return Plotted(found.model, tuple(parity(plot) for plot in found.plots if plot.points))


def parity(plot: ParityPlot) -> Parity:
    """Return the drawing of one plot."""
    values = [value for label, predicted, _ in plot.points for value in (label, predicted)]
    low, high = min(values), max(values)
    margin = 0.04 * (high - low) or 1.0
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return round(SIDE * (value - low) / (high - low), 1)

    layers: list[list[str]] = [[] for _ in range(len(DENSE) + 1)]
    for label, predicted, count in plot.points:
        dots = layers[sum(count > limit for limit in DENSE)]
        dots.append(f"M{place(label):g} {SIDE - place(predicted):g}h0")
    half, counts = plot.histogram.half, plot.histogram.counts
    bars = {
        "edges": [half * (2 * at / len(counts) - 1) for at in range(len(counts) + 1)] if counts else [],
        "counts": counts,
    }
    return Parity(
        title=plot.title,
        unit=plot.unit,
        count=plot.count,
        not_finite=plot.not_finite,
        layers=tuple("".join(dots) for dots in layers),
        ticks=tuple(Tick(place(value), f"{value:.10g}") for value in _round_numbers(low, high)),
        errors=draw("error", f"{plot.title}: predicted minus label", plot.unit, bars),
    )


def _round_numbers(low: float, high: float) -> Iterator[float]:
    """Yield a few round numbers between two."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    for number in range(first, math.floor(high / step) + 1):
        yield round(number * step, 12)
