"""Which rows step t sees: a pure function of (seed, t), so that there is no sampler state to lose."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.engines.minimind.seeds import of_epoch
from worker.order import permutation


class RowOrder:
    """Batches of rows: every row once per epoch, in an order that belongs to seed and epoch."""

    def __init__(self, rows: int, batch_size: int, seed: int) -> None:
        self._rows, self._batch_size, self._seed = rows, batch_size, seed
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    @property
    def per_epoch(self) -> int:
        """Number of batches in one epoch."""
        return -(-self._rows // self._batch_size)

    def batch(self, step: int) -> Sequence[int]:
        """Return the rows of step 1, 2, …; the last batch of an epoch may be smaller."""
        epoch, place = divmod(step - 1, self.per_epoch)
        if epoch != self._epoch:
            self._order = permutation(self._rows, of_epoch(self._seed, epoch), "rows")
            self._epoch = epoch
        found: list[int] = self._order[place * self._batch_size : (place + 1) * self._batch_size].tolist()
        return found


def fixed(rows: int, wanted: int) -> Sequence[int]:
    """Return the rows that every validation looks at: the same for all seeds and steps, from all over the data."""
    found: list[int] = permutation(rows, "validation")[:wanted].tolist()
    return found
