"""The timeline of a job: what happened, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.auth import AttemptIdentity
from app.tables import Attempt, Event, Job
from app.wire import jobs as wire
from app.wire.worker import AttemptEvent


def tell(
    session: Session,
    job_id: int,
    kind: str,
    message: str,
    *,
    attempt: int | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Put one line on a job's timeline. The caller changes the job with it, so that its version rises."""
    session.add(Event(job_id=job_id, attempt=attempt, kind=kind, message=message, data=dict(data or {})))


def events(session: Session, job_id: int, *, after: int = 0, limit: int = 1000) -> list[wire.Event]:
    """Return the events of a job with an id above `after`, oldest first."""
    rows = session.scalars(
        select(Event).where(Event.job_id == job_id, Event.id > after).order_by(Event.id).limit(limit)
    )
    return [view(row) for row in rows]


def newest(session: Session, job_id: int, limit: int = 1000, *, without: str = "") -> list[wire.Event]:
    """Return the last events of a job, newest first; `without` those of one kind."""
    mine = (Event.job_id == job_id, Event.kind != without)
    return [view(row) for row in session.scalars(select(Event).where(*mine).order_by(Event.id.desc()).limit(limit))]


def newest_of(session: Session, job_id: int, kind: str, limit: int) -> list[wire.Event]:
    """Return the last events of one kind, newest first."""
    mine = (Event.job_id == job_id, Event.kind == kind)
    return [view(row) for row in session.scalars(select(Event).where(*mine).order_by(Event.id.desc()).limit(limit))]


def view(row: Event) -> wire.Event:
    """Return what a client reads."""
    return wire.Event(
        id=row.id,
        job_id=row.job_id,
        at=row.at,
        kind=row.kind,
        message=row.message,
        attempt=row.attempt,
        data=row.data,
    )


def touch(session: Session, job_id: int) -> None:
    """Raise a job's version, so that event streams and pollers look at it again."""
    session.execute(update(Job).where(Job.id == job_id).values(version=Job.version + 1))


def append(session: Session, attempt: AttemptIdentity, items: Sequence[AttemptEvent]) -> None:
    """Put what an attempt reports on the timeline; what has arrived before is left out."""
    row = session.get_one(Attempt, attempt.id)
    fresh = [item for item in items if item.seq > row.event_seq]
    for item in fresh:
        tell(session, attempt.job_id, item.kind, item.message, attempt=attempt.number, data=item.data)
    if fresh:
        row.event_seq = max(item.seq for item in fresh)
        touch(session, attempt.job_id)
