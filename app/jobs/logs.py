"""Logs of trainers: kept in the pieces in which they arrive, read by lines or by bytes."""

from collections.abc import Iterator

from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from app.auth import AttemptIdentity
from app.db import reading
from app.tables import Attempt, LogChunk

PIECE_BYTES = 256 * 1024
"""Bytes that are read from the end at a time while looking for the last lines."""

SCAN_BYTES = 16 * 2**20
"""How far from the end last lines are looked for: a log without line ends must not fill the memory."""


def append(session: Session, attempt: AttemptIdentity, offset: int, data: bytes) -> int:
    """Keep the bytes of a log from `offset` on and return its size.

    Bytes that are there already are not kept twice. A gap is not filled: the answer says where to go on.
    """
    size = session.scalars(select(Attempt.log_size).where(Attempt.id == attempt.id)).one()
    fresh = data[size - offset :] if offset <= size else b""
    if fresh:
        session.add(LogChunk(attempt_id=attempt.id, start=size, data=fresh))
        session.execute(
            update(Attempt)
            .where(Attempt.id == attempt.id)
            .values(log_size=size + len(fresh))
            .execution_options(synchronize_session=False)
        )
    return size + len(fresh)


def read(session: Session, attempt_id: int, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes of a log from `start` up to, not including, `stop`, one stored piece at a time."""
    # Pieces do not overlap and are in order: the one that holds `start` is the last that begins at or before it.
    first = select(LogChunk.start).where(LogChunk.attempt_id == attempt_id, LogChunk.start <= start)
    at = session.scalar(first.order_by(LogChunk.start.desc()).limit(1))
    while at is not None and at < stop:
        data = session.scalar(select(LogChunk.data).where(LogChunk.attempt_id == attempt_id, LogChunk.start == at))
        if not data:
            return
        yield data[max(0, start - at) : stop - at]
        at += len(data)


def whole(sessions: sessionmaker[Session], job_id: int) -> Iterator[bytes]:
    """Yield the logs of all executions of a job, oldest first, in a session of its own: it may be sent after the request."""
    attempts = select(Attempt.id, Attempt.log_size).where(Attempt.job_id == job_id).order_by(Attempt.number)
    with reading(sessions) as session:
        for attempt_id, size in session.execute(attempts).all():
            yield from read(session, attempt_id, 0, size)


def tail(session: Session, attempt_id: int, size: int, lines: int) -> bytes:
    """Return the last lines of a log."""
    start, found = size, b""
    while start > 0 and found.count(b"\n") <= lines and size - start < SCAN_BYTES:
        stop, start = start, max(0, start - PIECE_BYTES)
        found = b"".join(read(session, attempt_id, start, stop)) + found
    kept = found.splitlines(keepends=True)[-lines:] if lines else []
    return b"".join(kept)
