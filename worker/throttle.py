"""Uploads in the background take no more of the network than they are allowed to."""

import threading
import time

from worker.client import Hurry

LOOK_S = 0.2


class Throttle:
    """Lets so many bytes per second pass, from all threads together; None: as many as there are."""

    def __init__(self, bytes_per_s: int | None = None) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0
        self._lock = threading.Lock()
        self._lifted = threading.Event()

    @property
    def chunk_bytes(self) -> int:
        """How much to send at a time, so that the flow is even."""
        return 1 << 20 if self._bytes_per_s is None else max(1 << 10, min(1 << 20, self._bytes_per_s // 4))

    def take(self, count: int, hurry: Hurry) -> None:
        """Wait until `count` more bytes may pass. Ends early when there is no time left to wait."""
        if self._bytes_per_s is None:
            return
        with self._lock:
            self._free_at = max(time.monotonic(), self._free_at) + count / self._bytes_per_s
            until = self._free_at
        while (left := until - time.monotonic()) > 0 and not hurry.is_set():
            if self._lifted.wait(min(left, LOOK_S)):
                return

    def lift(self) -> None:
        """Let everything pass from now on: no training is left that could be held up."""
        self._lifted.set()
