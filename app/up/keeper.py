"""Keeps the parts running: starts them in order, restarts what dies, stops them in the reverse order."""

import threading
import time
from collections.abc import Callable, Sequence

from app.up.parts import Part

TICK_S = 0.1
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
STEADY_S = 30.0
"""A part that has been healthy for this long starts its next series of failures at the shortest wait."""
HOPELESS = 3
"""Ends before the first sign of life after which the start as a whole is given up."""
BOUND_LOGS_S = 10.0

Say = Callable[[str, str], None]
"""Called with a part's name and what happened to it."""


class Hopeless(Exception):
    """A part does not start. The message carries the end of its log."""

    def __init__(self, part: Part) -> None:
        super().__init__(f"{part.name} does not start; the end of {part.log}:\n{part.tail()}")


class Keeper:
    """Supervises parts in a thread of its own until `stop`.

    Every process is started by that one thread: the kernel signals a child when the *thread* that forked it ends.
    """

    def __init__(self, parts: Sequence[Part], say: Say, inherit: Sequence[int] = ()) -> None:
        self._parts = parts
        self._say = say
        self._inherit = inherit
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._up = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="keeper")
        self._bound_logs_at = 0.0

    def start(self) -> None:
        """Start the parts, each once those before it are ready; return when all are.

        Raises:
            Hopeless: one of them does not start.
        """
        self._thread.start()
        self._up.wait()
        self.check()

    def check(self) -> None:
        """Raise what ended the supervision, if something did."""
        if self._error:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """Stop the parts, last one first, and wait for it."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def hurry(self) -> None:
        """Stop without waiting for anything."""
        self._hurry.set()
        self._stopping.set()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(TICK_S):
                self._tick()
        except BaseException as error:  # noqa: BLE001  (carried to the thread that waits, which raises it)
            self._error = error
        finally:
            self._stop_parts()
            self._up.set()

    def _tick(self) -> None:
        now = time.monotonic()
        for part in self._parts:
            if part.process is None and now >= part.retry_at:
                part.start(self._inherit)
            self._look_after(part)
            if not self._up.is_set() and not part.ready:
                return
        self._up.set()
        if now > self._bound_logs_at:
            self._bound_logs_at = now + BOUND_LOGS_S
            for part in self._parts:
                part.bound_log()

    def _look_after(self, part: Part) -> None:
        if part.process is None:
            return
        status = part.ended()
        if status is not None:
            self._failed(part, _ending(status))
            return
        was_ready = part.ready
        part.probe()
        if part.ready and not was_ready:
            self._say(part.name, "ready")
        if part.hangs():
            self._failed(part, "gives no sign of life")
        elif part.ready and time.monotonic() - part.started_at > STEADY_S:
            part.failures = 0

    def _failed(self, part: Part, what: str) -> None:
        part.kill()
        part.failures += 1
        if not self._up.is_set() and part.failures >= HOPELESS:
            raise Hopeless(part)
        wait = backoff(part.failures)
        part.retry_at = time.monotonic() + wait
        self._say(part.name, f"{what}; starting it again in {wait:g} s (see {part.log})")

    def _stop_parts(self) -> None:
        for part in reversed(self._parts):
            if part.process is not None and not part.stop(self._hurry.is_set):
                self._say(part.name, "was killed: it did not stop in time")


def backoff(failures: int) -> float:
    """Return how many seconds to wait before the next start."""
    return float(min(FIRST_RETRY_S * 2 ** (failures - 1), LONGEST_RETRY_S))


def _ending(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
