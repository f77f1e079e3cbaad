"""What is to become of an attempt: asked to stop, superseded, or its worker shutting down. Threads meet here."""

import threading
import time
from dataclasses import dataclass, field
from typing import Literal

from app.wire.worker import HeartbeatAnswer

Order = Literal["checkpoint", "now"]


class Shutdown:
    """The worker's end: first asked for, then in a hurry."""

    def __init__(self) -> None:
        self.requested = threading.Event()
        self.hurried = threading.Event()

    def request(self) -> None:
        """Ask once for checkpoints and an orderly end; ask again for the quickest one. Safe in a signal handler."""
        if self.requested.is_set():
            self.hurried.set()
        self.requested.set()


@dataclass
class Fate:
    """One attempt's orders. `abandon` ends every wait and transfer of the attempt at once."""

    shutdown: Shutdown
    superseded: str | None = None
    broken: str | None = None
    """The worker's own failure, by which the attempt cannot go on here."""
    stop: HeartbeatAnswer | None = None
    abandon: threading.Event = field(default_factory=threading.Event)

    def supersede(self, why: str) -> None:
        """Note that the attempt does not exist any more: nothing of it is wanted."""
        if self.superseded is None:
            self.superseded = why
        self.abandon.set()

    def heard(self, answer: HeartbeatAnswer) -> None:
        """Note what the server wants. `now` outranks `checkpoint`; a stop is never taken back."""
        if answer.action == "stop" and (self.stop is None or self.stop.how != "now"):
            self.stop = answer

    @property
    def order(self) -> Order | None:
        """Return how the trainer should stop, or None."""
        if self.superseded is not None or self.shutdown.hurried.is_set():
            return "now"
        if self.stop is not None:
            return self.stop.how
        return "checkpoint" if self.shutdown.requested.is_set() or self.broken is not None else None


class Ordered:
    """Set, like an event, as soon as an attempt is told to stop in any way: what it fetches is not needed any more."""

    def __init__(self, fate: Fate) -> None:
        self._fate = fate

    def is_set(self) -> bool:
        """Return whether there is an order."""
        return self._fate.order is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether there is an order, after at most `timeout` seconds."""
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while not self.is_set() and time.monotonic() < deadline:
            self._fate.abandon.wait(min(0.1, max(0.0, deadline - time.monotonic())))
        return self.is_set()
