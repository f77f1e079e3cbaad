"""Bands: a metric of many trainings over steps, as mean, spread and 95 % confidence interval of the mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from app.groups.statistics import t_quantile
from app.jobs.downsampling import downsample, outline
from app.jobs.series import Array, Series


@dataclass(frozen=True)
class Bands:
    """Statistics of the finite values at each step, all of shape (n,); NaN where there are too few for one."""

    steps: Array
    """int64, strictly increasing: every step that at least one training has."""
    count: Array
    """int64: how many trainings have a finite value there."""
    mean: Array
    std: Array
    """Of the sample (n - 1)."""
    low: Array
    high: Array
    min: Array
    max: Array

    def __len__(self) -> int:
        return len(self.steps)

    @classmethod
    def joined(cls, pieces: "Sequence[Bands]") -> "Bands":
        """Return the bands of consecutive ranges of steps as one."""
        return cls(*(np.concatenate([getattr(piece, field.name) for piece in pieces]) for field in fields(cls)))

    def _at(self, indices: Array) -> "Bands":
        return Bands(*(getattr(self, field.name)[indices] for field in fields(self)))

    def _chosen(self, choose: Callable[[Series, int], Series], points: int) -> "Bands":
        kept = choose(Series(self.steps, self.mean), points)
        return self._at(np.searchsorted(self.steps, kept.steps))

    def downsampled(self, max_points: int) -> "Bands":
        """Return at most this many of the steps; the extremes of the mean and both ends are among them."""
        return self._chosen(downsample, max_points)

    def outlined(self, points: int) -> "Bands":
        """Return about this many of the steps, from which `downsampled` makes nearly the same as from all."""
        return self._chosen(outline, points) if len(self) > points else self


class Total:
    """Statistics of one training after the other, so that how many there are costs no memory.

    Running mean and squares (Welford, 1962) are exact where the spread is tiny beside the mean, too, as of energies.
    """

    def __init__(self) -> None:
        self._steps: Array = np.empty(0, np.int64)
        self._count: Array = np.empty(0, np.int64)
        self._mean, self._squares, self._min, self._max = (np.empty(0) for _ in range(4))

    def add(self, series: Series) -> None:
        """Count a training's values in."""
        if not np.array_equal(series.steps, self._steps):
            self._widen(_union(self._steps, series.steps))
        finite = np.isfinite(series.values)
        whole = len(series) == len(self._steps) and finite.all()
        at = slice(None) if whole else np.searchsorted(self._steps, series.steps[finite])
        values = series.values if whole else series.values[finite]
        self._count[at] += 1
        with _silence():
            off = values - self._mean[at]
            self._mean[at] += off / self._count[at]
            self._squares[at] += off * (values - self._mean[at])
        self._min[at] = np.minimum(self._min[at], values)
        self._max[at] = np.maximum(self._max[at], values)

    def _widen(self, steps: Array) -> None:
        """Make room for steps that nobody had so far."""
        at = np.searchsorted(steps, self._steps)

        def spread(old: Array, empty: float) -> Array:
            new = np.full(len(steps), empty, old.dtype)
            new[at] = old
            return new

        self._count, self._mean, self._squares = (spread(x, 0) for x in (self._count, self._mean, self._squares))
        self._min, self._max = spread(self._min, np.inf), spread(self._max, -np.inf)
        self._steps = steps

    def bands(self) -> Bands:
        """Return what came of it."""
        none = self._count == 0
        mean = np.where(none, np.nan, self._mean)
        with _silence():
            variance = self._squares / np.maximum(self._count - 1, 1)
            std = np.where(self._count < 2, np.nan, np.sqrt(variance))
            half = _factors(self._count) * std
            low, high = mean - half, mean + half
        return Bands(
            steps=self._steps,
            count=self._count,
            mean=mean,
            std=std,
            low=low,
            high=high,
            min=np.where(none, np.nan, self._min),
            max=np.where(none, np.nan, self._max),
        )


def _union(left: Array, right: Array) -> Array:
    """Return the numbers of two increasing arrays, each once. `np.union1d` takes many times as long: it hashes."""
    both = np.sort(np.concatenate([left, right]), kind="stable")
    return both[np.diff(both, prepend=-1) > 0]


def _factors(count: Array) -> Array:
    """Return half the width of the interval, in standard deviations of the sample, for each number of values."""
    table = [np.nan, np.nan, *(t_quantile(n - 1) / np.sqrt(n) for n in range(2, int(count.max(initial=0)) + 1))]
    return np.array(table)[count]


def _silence() -> np.errstate:
    """Return a context without numpy's warnings: near the end of the range a spread is infinite, which is no accident."""
    return np.errstate(over="ignore", invalid="ignore")
