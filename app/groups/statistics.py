"""What many equal trainings tell together: mean, spread, confidence interval, outliers. Pure functions."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import mean, median, stdev

from app.wire.groups import Summary

OUTLYING = 3.5
"""Modified z-score beyond which a value is an outlier (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993)."""

FEWEST = 4
"""Values that it takes to call one an outlier: of three, two are close to each other by chance too often (in 29 of 100
groups of normal numbers, the third is then beyond OUTLYING)."""


@cache
def t_quantile(freedom: int) -> float:
    """Return t with 95 % of Student's distribution between -t and t, for whole degrees of freedom of at least 1.

    By bisection of the closed form in the angle atan(t / sqrt(freedom)): Abramowitz and Stegun 26.7.3 and 26.7.4.
    """
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _within(middle, freedom) < 0.95 else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """Return the share of Student's distribution between -t and t, where t = sqrt(freedom) tan(angle)."""
    cosine = math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= cosine * cosine * (power + 1) / (power + 2)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def summary(key: str, values: Mapping[int, float | None], unit: str = "") -> Summary:
    """Return the statistics of one metric, given its newest value by job; None stands for NaN or infinity."""
    finite = [float(value) for value in values.values() if value is not None]
    centre = mean(finite) if finite else None
    spread = _deviation(finite)
    low = high = None
    if centre is not None and spread is not None:
        half = t_quantile(len(finite) - 1) * spread / math.sqrt(len(finite))
        low, high = centre - half, centre + half
    return Summary(
        key=key,
        unit=unit,
        count=len(finite),
        mean=centre,
        std=spread,
        low=_shown(low),
        high=_shown(high),
        values=dict(values),
        outliers=outliers(values),
    )


def _deviation(values: Sequence[float]) -> float | None:
    try:
        return stdev(values) if len(values) > 1 else None
    except OverflowError:  # each value is a number, but not their distance
        return None


def _shown(value: float | None) -> float | None:
    """Return a number that JSON has: the interval may end beyond the largest."""
    return value if value is not None and math.isfinite(value) else None


def outliers(values: Mapping[int, float | None]) -> list[int]:
    """Return the jobs whose value is not finite, or lies too far from the median of the others' for its spread."""
    finite = [float(value) for value in values.values() if value is not None]
    if len(finite) < FEWEST:
        return [job for job, value in values.items() if value is None]
    centre = median(finite)
    scale = _scale([abs(value - centre) for value in finite])
    return [job for job, value in values.items() if value is None or abs(value - centre) > OUTLYING * scale]


def _scale(distances: Sequence[float]) -> float:
    """Return what the standard deviation of a normal distribution with such distances from its median would be.

    From their median; where more than half of the values are equal, from their mean.
    """
    middle = median(distances)
    return middle / 0.6745 if middle else mean(distances) * 1.2533
