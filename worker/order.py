"""Random words and permutations that belong to names: pure functions, so that there is no generator's state to lose.

The stream is defined by SHA-256 and Philox-4x64 words alone, not by NumPy's distributions, whose output may change
between releases.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from app.engines.seeds import DATA_ORDER_RULE


def words(count: int, *names: int | str) -> NDArray[np.uint64]:
    """Return `count` uniform 64-bit words that belong to `names`."""
    text = "/".join([DATA_ORDER_RULE, *map(str, names)])
    key = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype="<u8")
    raw: NDArray[np.uint64] = np.random.Philox(key=key.astype(np.uint64)).random_raw(count)
    return raw


def permutation(length: int, *names: int | str) -> NDArray[np.int64]:
    """Return the numbers below `length` in an order that belongs to `names`."""
    return np.argsort(words(length, *names), kind="stable").astype(np.int64)
