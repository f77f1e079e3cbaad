"""Ending live streams when the server is told to stop."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def before_shutdown(action: Callable[[], None]) -> Iterator[None]:
    """Call `action` on the event loop as soon as a signal asks the process to stop, then do what was done before.

    Uvicorn waits for open connections before it ends the lifespan, and a live stream ends only when told to: without
    this, every open dashboard would hold the shutdown up.
    """
    if threading.current_thread() is not threading.main_thread():
        # Signals belong to the main thread; elsewhere (tests) the lifespan's end is the only sign.
        yield
        return
    loop = asyncio.get_running_loop()
    former: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(action)
        handler = former[number]
        if callable(handler):
            handler(number, frame)

    for number in SIGNALS:
        if callable(former[number]):
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number in SIGNALS:
            if signal.getsignal(number) is handle:
                signal.signal(number, former[number])
