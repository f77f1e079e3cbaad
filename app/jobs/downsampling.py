"""Few points that show what many do: MinMaxLTTB, with the extremes kept and nothing lost in NaN."""

from typing import Any

import numpy as np
from tsdownsample import MinMaxDownsampler, MinMaxLTTBDownsampler

from app.jobs.series import Array, Series

MIN_POINTS = 8


def downsample(series: Series, max_points: int) -> Series:
    """Return at most `max_points` of the points, which must be at least MIN_POINTS.

    Kept always: the first and the last point, the smallest and the largest finite value. Of values that are not finite
    the first and last of each run are kept while they fit into a quarter of the points; more than that are thinned out
    evenly. The rest is chosen by MinMaxLTTB (Van Der Donckt et al., 2023), which follows the shape that the eye sees.
    """
    assert max_points >= MIN_POINTS, "too few points for what must be kept"
    if len(series) <= max_points:
        return series
    finite = np.isfinite(series.values)
    odd = _thinned(_run_edges(~finite), max_points // 4)
    usable = np.flatnonzero(finite)
    chosen = np.concatenate([odd, _of_finite(series, usable, max_points - len(odd) - 2), [0, len(series) - 1]])
    kept = np.unique(chosen)
    return Series(series.steps[kept], series.values[kept])


def outline(series: Series, points: int) -> Series:
    """Return about `points` points from which `downsample` makes nearly the same as from the whole.

    Kept are both ends, the extremes of equal stretches, and the ends of runs of values that are not finite.
    """
    finite = np.isfinite(series.values)
    usable = np.flatnonzero(finite)
    points = max(2, points // 2 * 2)
    if len(usable) > points:
        downsampler: Any = MinMaxDownsampler()  # type: ignore[no-untyped-call]  # it ships half of its types
        usable = usable[downsampler.downsample(np.ascontiguousarray(series.values[usable]), n_out=points)]
    odd = _thinned(_run_edges(~finite), points)
    kept = np.unique(np.concatenate([usable, odd, [0, len(series) - 1]]))
    return Series(series.steps[kept], series.values[kept])


def _of_finite(series: Series, usable: Array, points: int) -> Array:
    if len(usable) <= points:
        return usable
    steps, values = series.steps[usable], np.ascontiguousarray(series.values[usable])
    ends = np.array([values.argmin(), values.argmax()])
    # Scaled to avoid an overflow in the areas that the algorithm compares.
    scale = np.abs(values[ends]).max()
    scaled = values / scale if scale > 1e100 else values
    downsampler: Any = MinMaxLTTBDownsampler()  # type: ignore[no-untyped-call]  # it ships half of its types
    inner = downsampler.downsample(steps, scaled, n_out=points - 2).astype(np.int64)
    return np.asarray(usable[np.unique(np.concatenate([inner, ends]))])


def _run_edges(odd: Array) -> Array:
    """Return the first and last index of every run of true values."""
    padded = np.concatenate([[False], odd, [False]])
    starts = np.flatnonzero(padded[1:] & ~padded[:-1])
    stops = np.flatnonzero(~padded[1:] & padded[:-1])
    return np.unique(np.concatenate([starts, stops - 1]))


def _thinned(indices: Array, points: int) -> Array:
    if len(indices) <= points:
        return indices
    return indices[np.linspace(0, len(indices) - 1, points).astype(np.int64)] if points else indices[:0]
