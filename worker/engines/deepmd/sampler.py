"""Which frames step t sees: a pure function of (seed, t), so that there is no sampler state to lose."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.order import permutation, words

_BLOCK = 4096


class Draws:
    """An endless sequence of draws among a few alternatives with given probabilities, open at any place."""

    def __init__(self, probabilities: Sequence[float], *names: int | str) -> None:
        weights = np.asarray(probabilities, dtype=np.float64)
        if weights.size == 0 or np.any(weights < 0) or not weights.sum() > 0:
            raise ValueError(f"Probabilities must be non-negative with a positive sum, not {list(probabilities)}.")
        self._cdf = np.cumsum(weights / weights.sum())
        self._names = names
        self._blocks: dict[int, NDArray[np.int64]] = {}
        self._counts = [np.zeros(weights.size, dtype=np.int64)]

    def at(self, index: int) -> tuple[int, int]:
        """Return (alternative drawn at place `index`, how often it was drawn before)."""
        number, place = divmod(index, _BLOCK)
        block = self._block(number)
        drawn = int(block[place])
        before = int(self._count_before(number)[drawn]) + int(np.count_nonzero(block[:place] == drawn))
        return drawn, before

    def _block(self, number: int) -> NDArray[np.int64]:
        if number not in self._blocks:
            uniform = (words(_BLOCK, *self._names, number) >> np.uint64(11)).astype(np.float64) * 2.0**-53
            drawn = np.searchsorted(self._cdf, uniform, side="right").clip(max=self._cdf.size - 1)
            self._blocks = {number: drawn.astype(np.int64)}
        return self._blocks[number]

    def _count_before(self, number: int) -> NDArray[np.int64]:
        while len(self._counts) <= number:
            drawn = self._block(len(self._counts) - 1)
            self._counts.append(self._counts[-1] + np.bincount(drawn, minlength=self._cdf.size))
        return self._counts[number]


class FrameOrder:
    """The batches of one task: a system by its probability, then its frames, each once per epoch of that system."""

    def __init__(
        self, frames: Sequence[int], batch_sizes: Sequence[int], probabilities: Sequence[float], *names: int | str
    ) -> None:
        self._frames, self._batch_sizes, self._names = list(frames), list(batch_sizes), names
        self._draws = Draws(probabilities, *names, "system")
        self._orders: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def batch(self, index: int) -> tuple[int, list[int]]:
        """Return (system, its frames) of batch `index`. The last batch of an epoch may be smaller."""
        system, visit = self._draws.at(index)
        size = self._batch_sizes[system]
        per_epoch = -(-self._frames[system] // size)
        epoch, place = divmod(visit, per_epoch)
        order = self._order(system, epoch)
        return system, order[place * size : (place + 1) * size].tolist()

    def _order(self, system: int, epoch: int) -> NDArray[np.int64]:
        known = self._orders.get(system)
        if known is None or known[0] != epoch:
            known = epoch, permutation(self._frames[system], *self._names, "frames", system, epoch)
            self._orders[system] = known
        return known[1]
