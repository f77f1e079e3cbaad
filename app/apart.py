"""Threads for what takes long, apart from those that answer requests: however much is uploaded, a heartbeat finds one free."""

from collections.abc import Callable
from typing import Literal, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request

T = TypeVar("T")

Kind = Literal["data", "blobs", "claims"]

AT_ONCE: dict[Kind, int] = {"data": 8, "blobs": 8, "claims": 8}
"""Data that are checked and packed, which may take an hour, blobs that are hashed, and claims of jobs whose checkpoints may
have to be, at the same time.

The others wait on the event loop, without a thread and without a session that writes.
"""

Apart = dict[Kind, CapacityLimiter]


def places() -> Apart:
    """Return the places of one application, by kind of work."""
    return {kind: CapacityLimiter(count) for kind, count in AT_ONCE.items()}


async def apart(request: Request, kind: Kind, work: Callable[[], T]) -> T:
    """Do what takes long in a thread of its own, as soon as one of its kind's places is free."""
    free: Apart = request.app.state.apart
    return await to_thread.run_sync(work, limiter=free[kind])
