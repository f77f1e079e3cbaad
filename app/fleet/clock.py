"""The clock that leases are measured by can be set while jobs run. What was dated by it before must not be believed for hours."""

import time
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, update
from sqlalchemy.orm import InstrumentedAttribute, Session, sessionmaker

from app.db import transaction
from app.jobs import rules
from app.settings import Settings
from app.tables import Attempt, Errand, Job, Worker
from app.tables.base import now

LEAP_S = 1.0
"""A clock that is only steered never moves by so much between two looks."""


class Watch:
    """Holds the clock against one that nobody sets, which only counts seconds."""

    def __init__(self) -> None:
        self._ahead_s = _ahead_s()

    def leap_s(self) -> float:
        """Return by how many seconds the clock was set since the last call, below zero for back; 0.0 for next to nothing."""
        before, self._ahead_s = self._ahead_s, _ahead_s()
        leap_s = self._ahead_s - before
        return leap_s if abs(leap_s) > LEAP_S else 0.0


def _ahead_s() -> float:
    return now().timestamp() - time.monotonic()


def pull_back(sessions: sessionmaker[Session], settings: Settings) -> int:
    """Move what lies further ahead than it can have been dated: the clock was set back since. Return how much that was.

    A lease would outlive its dead worker, and a lost doorbell never be rung again, until the old time is reached.
    """
    at = now()
    lease, errand = timedelta(seconds=settings.lease_s), timedelta(seconds=settings.errand_s)
    pause = timedelta(seconds=rules.LONGEST_PAUSE_S)
    with transaction(sessions) as session:
        return (
            _no_later(session, Errand.lease_expires_at, at + errand, Errand.state == "taken")
            + _no_later(session, Errand.rung_at, at, Errand.state == "waiting")
            + _no_later(session, Attempt.lease_expires_at, at + lease, Attempt.state == "running")
            + _no_later(session, Job.rung_at, at, Job.state == "queued")
            + _no_later(session, Job.not_before, at + pause, Job.state == "queued")
            + _no_later(session, Worker.last_seen_at, at)
        )


def _no_later(
    session: Session, column: InstrumentedAttribute[Any], latest: datetime, *conditions: ColumnElement[bool]
) -> int:
    values: dict[Any, Any] = {column: latest}
    if column.class_ is Job:
        values[Job.updated_at] = Job.updated_at  # what people see does not change
    moved = update(column.class_).where(column > latest, *conditions).values(values)
    result = session.execute(moved.execution_options(synchronize_session=False))
    return cast("CursorResult[Any]", result).rowcount
