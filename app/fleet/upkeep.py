"""Background work: leases of the dead expire, what waits is rung for again, what has ended is compared, measured or tidied.

Safe in several processes at once.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, load_only, sessionmaker

from app.db import reading, transaction
from app.errands import service as errands
from app.fleet import clock, outcomes
from app.jobs.measuring import submit_due
from app.jobs.reproduction import conclude
from app.jobs.tidying import tidy_due
from app.jobs.transitions import expire
from app.queue import count_messages, ring_after_commit
from app.settings import Settings
from app.tables import Attempt, Job
from app.tables.base import now
from app.wire.doorbell import queue_name

log = logging.getLogger(__name__)

RING_AGAIN = timedelta(seconds=10)
"""A job that was rung longer ago than this, or than a quarter of a lease, and still waits is rung again when its queue has
fewer messages than jobs wait: its own may be lost, or lie with a worker that has reserved it and is busy.
"""

BATCH = 500
"""Jobs that are rung for in one round, and messages that a queue is filled up to: a broker that lost a hundred thousand
messages gets them back at the pace at which workers answer them.
"""


def round_s(settings: Settings) -> float:
    """Return the seconds between two rounds: often enough that a dead worker's job does not wait long beyond its lease."""
    return min(settings.reconcile_s, settings.lease_s / 6)


def spared_s(settings: Settings) -> float:
    """Return how long nobody is reaped after a time in which no lease could be renewed.

    A worker waits half a lease at most for an answer that will not come, and then speaks again.
    """
    return min(settings.lease_s, settings.lease_s / 2 + 2 * settings.heartbeat_s)


def reap(sessions: sessionmaker[Session], settings: Settings) -> int:
    """End every attempt and errand whose lease has run out, each in a transaction of its own; return how many."""
    due = select(Attempt.id).where(Attempt.state == "running", Attempt.lease_expires_at < now())
    with reading(sessions) as session:
        ids = session.scalars(due.order_by(Attempt.lease_expires_at).limit(BATCH)).all()
    ended = 0
    for attempt_id in ids:
        try:
            with transaction(sessions) as session:
                state = expire(session, attempt_id, settings)
        except OperationalError:  # the database is away, or full
            raise
        except Exception:  # one attempt that cannot be ended must not keep the others from it
            log.exception("attempt %s could not be ended; it will be tried again", attempt_id)
            continue
        if state is not None:
            ended += 1
            log.warning("attempt %s was not heard of any more; its job is now %s", attempt_id, state)
    return ended + _reap_errands(sessions, settings)


def _reap_errands(sessions: sessionmaker[Session], settings: Settings) -> int:
    with reading(sessions) as session:
        ids = errands.overdue(session, settings, BATCH)
    ended = 0
    for errand_id in ids:
        try:
            state = _expire_errand(sessions, errand_id, settings)
        except OperationalError:
            raise
        except Exception:  # as above
            log.exception("errand %s could not be taken from its worker; it will be tried again", errand_id)
            continue
        if state is not None:
            ended += 1
            log.warning("the worker of errand %s is gone or too slow; it is %s", errand_id, state)
    return ended


def _expire_errand(sessions: sessionmaker[Session], errand_id: int, settings: Settings) -> str | None:
    with transaction(sessions) as session:
        errand = errands.expire(session, errand_id, settings)
        if errand is None:
            return None
        outcomes.settle(session, errand)
        return errand.state


def reconcile(sessions: sessionmaker[Session], settings: Settings) -> int:
    """Ring for jobs and errands that wait and were never rung, or whose message seems to be lost; return how many."""
    with reading(sessions) as session:
        jobs = [*_never_rung(session), *_unanswered(session, settings)]
        unanswered = errands.unanswered(session, settings, BATCH)
    rung = 0
    with transaction(sessions) as session:
        rung += _ring(session, settings, jobs)
    for errand_id, rung_at in unanswered:
        with transaction(sessions) as session:
            rung += errands.ring_again(session, errand_id, rung_at)
    return rung


def _never_rung(session: Session) -> list[int]:
    statement = select(Job.id).where(*_due(), Job.rung_at.is_(None))
    return list(session.scalars(statement.order_by(Job.priority.desc(), Job.id).limit(BATCH)))


def _unanswered(session: Session, settings: Settings) -> list[int]:
    """Return jobs that were rung a while ago, as many as there are fewer messages than jobs that wait.

    Those rung longest ago come first, for the others may still have their messages. Which one is urgent is looked at when
    a worker claims.
    """
    waiting = session.execute(select(Job.engine, Job.gpus, func.count()).where(*_due()).group_by(Job.engine, Job.gpus))
    jobs = {(engine, slots): count for engine, slots, count in waiting}
    messages = count_messages(settings.effective_redis_url, [queue_name(*kind) for kind in jobs])
    found: list[int] = []
    for (engine, slots), count in jobs.items():
        missing = min(count, BATCH) - messages.get(queue_name(engine, slots), BATCH)
        if missing > 0:
            statement = select(Job.id).where(*_due(), Job.engine == engine, Job.gpus == slots, _long_ago(settings))
            found += session.scalars(statement.order_by(Job.rung_at, Job.id).limit(missing))
    return found


def _due() -> tuple[Any, ...]:
    return Job.state == "queued", or_(Job.not_before.is_(None), Job.not_before <= now())


def _long_ago(settings: Settings) -> ColumnElement[bool]:
    return Job.rung_at < now() - min(RING_AGAIN, timedelta(seconds=settings.lease_s / 4))


def _ring(session: Session, settings: Settings, jobs: Sequence[int]) -> int:
    """Ring for those for which no other process has done so since, and return how many they are."""
    still = Job.id.in_(jobs), *_due(), or_(Job.rung_at.is_(None), _long_ago(settings))
    # Whoever holds one of them changes it; it is looked at again in the next round.
    statement = select(Job).where(*still).order_by(Job.priority.desc(), Job.id).with_for_update(skip_locked=True)
    rows = session.scalars(statement.options(load_only(Job.engine, Job.gpus, Job.attempt))).all()
    # `updated_at` is what people see change; a ring is no change to them.
    rung = update(Job).where(Job.id.in_([row.id for row in rows])).values(rung_at=now(), updated_at=Job.updated_at)
    session.execute(rung.execution_options(synchronize_session=False))
    for row in rows:
        ring_after_commit(session, row, row.attempt + 1)
    return len(rows)


class Upkeep:
    """Two threads until it is closed: one reaps and reconciles, one does what follows from jobs that ended.

    To compare two long runs may take minutes, for which no dead worker's job should wait.
    """

    def __init__(self, sessions: sessionmaker[Session], settings: Settings) -> None:
        self._sessions, self._settings = sessions, settings
        self._round_s = round_s(settings)
        self._spare_the_living()
        self._clock = clock.Watch()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep_up, name="upkeep", daemon=True),
            threading.Thread(target=self._follow_up, name="follow-up", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _keep_up(self) -> None:
        while not self._rest():
            is_reaping = time.monotonic() >= self._reap_from
            for task in (reap if is_reaping else clock.pull_back, reconcile):
                if not self._do(task):
                    self._spare_the_living()

    def _follow_up(self) -> None:
        while not self._closed.wait(self._settings.reconcile_s):
            for task in (conclude, submit_due, tidy_due):
                self._do(task)

    def _do(self, task: Callable[[sessionmaker[Session], Settings], int]) -> bool:
        """Do a task, and return whether the database was there."""
        try:
            task(self._sessions, self._settings)
        except OperationalError as error:
            log.warning("%s will be tried again, the database is away: %s", task.__name__, error.orig)
            return False
        except Exception:  # nothing may end this thread: no job would ever be rescued again
            log.exception("%s will be tried again", task.__name__)
        return True

    def _rest(self) -> bool:
        """Wait for the next round; return whether there is none."""
        began = time.monotonic()
        closed = self._closed.wait(self._round_s)
        stood_still_s = time.monotonic() - began - self._round_s
        leap_s = self._clock.leap_s()
        if leap_s or stood_still_s > self._settings.lease_s / 2:
            self._spare_the_living()
            log.warning("the clock was set by %.0f s, and this process stood still for %.0f s", leap_s, stood_still_s)
        return closed

    def _spare_the_living(self) -> None:
        """Reap nobody for a while: API or database were away, or the clock was set, and nobody could renew a lease."""
        self._reap_from = time.monotonic() + spared_s(self._settings)

    def close(self) -> None:
        """Stop after the present round."""
        self._closed.set()
        for thread in self._threads:
            thread.join(timeout=30)
