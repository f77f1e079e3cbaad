"""How a training's errors on held-out data changed with its steps, drawn on the server: one curve a quantity and data."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.web import formats
from app.wire.measuring import Measured, Quantity

WIDTH, HEIGHT = 300, 90
"""Of the drawing."""


@dataclass(frozen=True)
class Point:
    """One checkpoint: where it is drawn, and what it says."""

    x: float
    y: float
    words: str


@dataclass(frozen=True)
class ErrorCurve:
    """One quantity on one set of data, its axis of errors logarithmic."""

    title: str
    unit: str
    data: Sequence[str]
    head: str | None
    points: Sequence[Point]
    first: int
    """The step on the left."""
    last: int
    low: float
    high: float

    @property
    def path(self) -> str:
        """Return the line through the points, as an SVG path."""
        return "M" + "L".join(f"{point.x:g} {point.y:g}" for point in self.points)


def curves(tests: Sequence[Measured]) -> list[ErrorCurve]:
    """Return a curve for each headline quantity of data on which two checkpoints and more were measured."""
    found: dict[tuple[str, str | None], dict[int, Measured]] = {}
    for test in tests:  # the newest job comes first: it counts
        if test.errors:
            found.setdefault((test.data_digest, test.head), {}).setdefault(test.step, test)
    return [curve for by_step in found.values() if len(by_step) > 1 for curve in _curves(by_step)]


def _curves(by_step: dict[int, Measured]) -> Iterator[ErrorCurve]:
    newest = by_step[max(by_step)]
    for quantity in newest.quantities:
        values = {step: test.errors.get(quantity.key) for step, test in sorted(by_step.items())}
        drawn = {step: value for step, value in values.items() if value}  # neither None nor 0 has a logarithm
        if quantity.headline and len(drawn) > 1:
            yield _curve(newest, quantity, drawn)


def _curve(newest: Measured, quantity: Quantity, values: dict[int, float]) -> ErrorCurve:
    first, last = min(values), max(values)
    low, high = min(values.values()), max(values.values())
    height = math.log(high / low) or 1.0

    def point(step: int, value: float) -> Point:
        x = WIDTH * (step - first) / (last - first)
        y = HEIGHT * (1 - math.log(value / low) / height)
        return Point(round(x, 1), round(y, 1), f"step {step:,}: {formats.significant(value)} {quantity.unit}".strip())

    points = [point(step, value) for step, value in values.items()]
    return ErrorCurve(quantity.title, quantity.unit, newest.data, newest.head, points, first, last, low, high)
