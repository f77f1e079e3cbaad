"""Series of metric values in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Series:
    """Values of one key: `steps` int64 and strictly increasing, `values` float64, both of shape (n,)."""

    steps: Array
    values: Array

    def __len__(self) -> int:
        return len(self.steps)

    def between(self, first: int | None, last: int | None) -> "Series":
        """Return the part whose steps lie in [first, last]."""
        start = 0 if first is None else int(np.searchsorted(self.steps, first, "left"))
        stop = len(self.steps) if last is None else int(np.searchsorted(self.steps, last, "right"))
        return Series(self.steps[start:stop], self.values[start:stop])


@dataclass(frozen=True)
class Batch:
    """One batch as it arrived: all its steps, and for each key the steps at which it was measured."""

    steps: Array
    columns: dict[str, Series]

    @property
    def rows(self) -> int:
        """Number of steps."""
        return len(self.steps)


def concatenate(parts: Sequence[Series]) -> Series:
    """Return one series of several; where a step occurs twice, the later part wins."""
    if len(parts) == 1:
        return parts[0]
    steps = np.concatenate([part.steps for part in parts]) if parts else np.empty(0, np.int64)
    values = np.concatenate([part.values for part in parts]) if parts else np.empty(0, np.float64)
    if (np.diff(steps) > 0).all():
        return Series(steps, values)
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    last = np.append(steps[1:] != steps[:-1], [True])
    return Series(steps[last], values[last])
