"""Parity plots: numbers on the axes that can be read, whatever the range."""

import pytest

from app.web.parity import SIDE, TICKS, parity
from app.wire.measuring import ErrorHistogram, ParityPlot


@pytest.mark.parametrize(
    ("low", "high"),
    [(-4.3, 4.1), (-0.06, 0.07), (0.0, 1.0), (-155.98, -155.7), (-518_000.013, -518_000.002), (3.0, 3.0)],
)
def test_axes_have_a_few_numbers_that_differ(low: float, high: float) -> None:
    histogram = ErrorHistogram(half=1.0, counts=[1, 1])
    plot = ParityPlot(title="t", unit="eV", count=2, points=[(low, low, 1), (high, high, 1)], histogram=histogram)
    ticks = parity(plot).ticks
    assert TICKS // 3 <= len(ticks) <= TICKS + 1
    assert len({tick.text for tick in ticks}) == len(ticks)
    assert all(0 <= tick.at <= SIDE for tick in ticks)
