"""One thread for file writes, so that a busy disk never holds a training step up."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import ParamSpec, Self

P = ParamSpec("P")

POLL_S = 1.0
"""Seconds between two looks whether the thread still lives."""


class Background:
    """Does things one after the other. What one of them raises is raised by the next call or by `wait`."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        self._pending: deque[Future[object]] = deque()

    def do(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call `function` soon, after everything asked for before."""
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(function, *args, **kwargs))

    def wait(self) -> None:
        """Return when everything asked for is done."""
        while self._pending:
            self._settle(self._pending.popleft())

    def _settle(self, asked: Future[object]) -> None:
        """Wait until something is done. A thread without memory can end before it has even begun with it."""
        while not wait([asked], POLL_S).done:
            if not self._writer.is_alive():
                raise MemoryError("the thread that writes files has ended, most likely for lack of memory")
        asked.result()

    def __enter__(self) -> Self:
        # The thread is there before it is needed: begun without memory it never comes up, and who begins it waits for ever.
        self._writer = self._thread.submit(threading.current_thread).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
