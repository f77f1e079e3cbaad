"""Background work: leases of the dead expire, what waits is rung for again, what has ended is compared or measured.

Safe in several processes at once.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, or_, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from app.db import reading, transaction
from app.errands import service as errands
from app.fleet import clock, outcomes
from app.fleet.service import openings
from app.jobs.measuring import submit_due
from app.jobs.reproduction import conclude
from app.jobs.transitions import expire
from app.queue import ring_after_commit
from app.settings import Settings
from app.tables import Attempt, Job
from app.tables.base import now

log = logging.getLogger(__name__)

RING_AGAIN = timedelta(seconds=10)
"""A job that was rung longer ago than this and still waits while a worker is free is rung again: the message may be
lost, or lie with a worker that has reserved it and is busy.
"""

BATCH = 500


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
    """Ring for jobs and errands that wait and were never rung, or that a worker should have taken; return how many."""
    with reading(sessions) as session:
        waiting = [*_never_rung(session), *_overdue(session, settings)]
        unanswered = errands.unanswered(session, settings, BATCH)
    rung = 0
    for job_id, rung_at in waiting:
        with transaction(sessions) as session:
            rung += _ring(session, job_id, rung_at)
    for errand_id, rung_at in unanswered:
        with transaction(sessions) as session:
            rung += errands.ring_again(session, errand_id, rung_at)
    return rung


def _never_rung(session: Session) -> list[Any]:
    statement = select(Job.id, Job.rung_at).where(*_due(), Job.rung_at.is_(None))
    return list(session.execute(statement.order_by(Job.priority.desc(), Job.id).limit(BATCH)))


def _overdue(session: Session, settings: Settings) -> list[Any]:
    """Return as many jobs as there are free slots, the most urgent first: more messages would help nobody.

    A job of more slots than are free is among them: who hears of it keeps those that are free until there are enough.
    """
    found: list[Any] = []
    for engine, opening in openings(session, settings).items():
        fits = Job.engine == engine, Job.gpus <= opening.largest
        statement = select(Job.id, Job.rung_at).where(*_due(), *fits, Job.rung_at < now() - RING_AGAIN)
        found += session.execute(statement.order_by(Job.priority.desc(), Job.id).limit(opening.slots))
    return found


def _due() -> tuple[Any, ...]:
    return Job.state == "queued", or_(Job.not_before.is_(None), Job.not_before <= now())


def _ring(session: Session, job_id: int, rung_at: Any) -> bool:
    """Ring, unless another process has done so since."""
    unchanged = Job.rung_at.is_(None) if rung_at is None else Job.rung_at == rung_at
    rung = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.state == "queued", unchanged)
        # `updated_at` is what people see change; a ring is no change to them.
        .values(rung_at=now(), updated_at=Job.updated_at)
        .execution_options(synchronize_session=False)
    )
    if cast("CursorResult[Any]", rung).rowcount != 1:
        return False
    job = session.get_one(Job, job_id)
    ring_after_commit(session, job, job.attempt + 1)
    return True


class Upkeep:
    """A thread that reaps, reconciles and concludes reproductions until it is closed."""

    def __init__(self, sessions: sessionmaker[Session], settings: Settings) -> None:
        self._sessions, self._settings = sessions, settings
        self._spare_the_living()
        self._clock = clock.Watch()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._rest():
            for task in self._due():
                try:
                    task(self._sessions, self._settings)
                except OperationalError as error:
                    log.warning("%s will be tried again, the database is away: %s", task.__name__, error.orig)
                    self._spare_the_living()
                except Exception:  # nothing may end this thread: no job would ever be rescued again
                    log.exception("%s will be tried again", task.__name__)

    def _rest(self) -> bool:
        """Wait for the next round; return whether there is none."""
        began = time.monotonic()
        closed = self._closed.wait(self._settings.reconcile_s)
        stood_still_s = time.monotonic() - began - self._settings.reconcile_s
        leap_s = self._clock.leap_s()
        if leap_s or stood_still_s > self._settings.lease_s / 2:
            self._spare_the_living()
            log.warning("the clock was set by %.0f s, and this process stood still for %.0f s", leap_s, stood_still_s)
        return closed

    def _spare_the_living(self) -> None:
        """Reap nobody for the length of a lease: API or database were away, or the clock was set, and nobody could renew one."""
        self._reap_from = time.monotonic() + self._settings.lease_s

    def _due(self) -> tuple[Callable[[sessionmaker[Session], Settings], int], ...]:
        always = (reconcile, conclude, submit_due)
        return (reap if time.monotonic() >= self._reap_from else clock.pull_back, *always)

    def close(self) -> None:
        """Stop after the present round."""
        self._closed.set()
        self._thread.join(timeout=30)
