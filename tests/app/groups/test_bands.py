"""Bands over steps, against the same in plain Python."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from app.groups.bands import Bands, Total
from app.jobs.series import Series

VALUES = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf]))
RUNS = st.lists(st.dictionaries(st.integers(1, 12), VALUES, max_size=12), max_size=6)


def series(run: dict[int, float]) -> Series:
    steps = sorted(run)
    return Series(np.array(steps, np.int64), np.array([run[step] for step in steps], np.float64))


def bands(runs) -> Bands:
    total = Total()
    for run in runs:
        total.add(series(run))
    return total.bands()


def expected(values: list[float]) -> tuple[float, ...]:
    """Return count, mean, std, low, high, min and max of the values at one step."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return (0, *[math.nan] * 6)
    mean = statistics.fmean(finite)
    if len(finite) < 2:
        return (1, mean, math.nan, math.nan, math.nan, mean, mean)
    std = statistics.stdev(finite)
    half = stats.t.ppf(0.975, len(finite) - 1) * std / math.sqrt(len(finite))
    return (len(finite), mean, std, mean - half, mean + half, min(finite), max(finite))


@given(RUNS)
def test_bands_are_those_of_plain_python(runs):
    found = bands(runs)
    assert found.steps.tolist() == sorted({step for run in runs for step in run})
    for at, step in enumerate(found.steps.tolist()):
        wanted = expected([run[step] for run in runs if step in run])
        columns = (found.count, found.mean, found.std, found.low, found.high, found.min, found.max)
        got = [column[at].item() for column in columns]
        assert got == pytest.approx(wanted, rel=1e-9, abs=1e-6, nan_ok=True), step


def test_a_tiny_spread_beside_a_large_mean_is_exact():
    found = bands([{1: 1e9 + part} for part in (0.0, 1e-3, 2e-3)])
    assert found.std[0] == pytest.approx(1e-3, rel=1e-3)
    assert bands([{1: 0.1}] * 5).std[0] == 0


def test_the_largest_numbers_warn_nobody():
    found = bands([{1: 1.7e308}, {1: -1.7e308}, {1: 1.7e308}])
    assert found.max[0] == 1.7e308


def test_downsampling_keeps_the_ends_and_the_extremes_of_the_mean():
    steps = np.arange(1, 50_001)
    values = np.sin(steps / 500)
    values[[12_344, 31_415]] = 5, -5
    total = Total()
    for shift in (0.0, 0.5):
        total.add(Series(steps, values + shift))
    few = total.bands().outlined(4000).downsampled(500)
    assert len(few) <= 500
    assert {1, 12_345, 31_416, 50_000} <= set(few.steps.tolist())
    at = few.steps.tolist().index(12_345)
    assert (few.mean[at], few.min[at], few.max[at], few.count[at]) == (5.25, 5.0, 5.5, 2)
