"""Blobs whose bytes this process is removing just now.

SQLite has one lock for all that write, and nobody may hold it while an object store is asked to delete something. With
both, one process serves, so what it remembers here stands for the lock of a row.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_under_way: set[str] = set()


@contextmanager
def of(sha256: str) -> Iterator[bool]:
    """Until the end of the block the blob is being removed; yields False when somebody else does that already."""
    with _lock:
        is_ours = sha256 not in _under_way
        _under_way.add(sha256)
    try:
        yield is_ours
    finally:
        if is_ours:
            _under_way.discard(sha256)


def is_under_way(sha256: str) -> bool:
    """Return whether the bytes may go at any moment."""
    return sha256 in _under_way
