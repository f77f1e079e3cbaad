"""Leases: a running attempt proves that it lives by what it sends."""

from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, Table, bindparam, select, update
from sqlalchemy.orm import Session

from app.auth import AttemptIdentity, AttemptToken, running_attempt, superseded
from app.jobs.timeline import tell
from app.settings import Settings
from app.tables import Attempt, Job
from app.tables.base import now
from app.wire.worker import Heartbeat, HeartbeatAnswer

# The statements of the busiest routes are built once: building them takes longer than running them.
_attempts, _jobs = cast("Table", Attempt.__table__), cast("Table", Job.__table__)
_IS_RUNNING = (_attempts.c.id == bindparam("attempt")) & (_attempts.c.state == "running")
_RENEW = update(_attempts).where(_IS_RUNNING).values(lease_expires_at=bindparam("until"))
_RENEW_BY_TOKEN = (
    _RENEW.where(_attempts.c.token_sha256 == bindparam("token")).returning(_attempts.c.job_id, _attempts.c.number)
)  # fmt: skip
_STANDS = ("phase", "step", "total_steps", "steps_per_s")
_STANDING = select(
    _jobs.c.state, _jobs.c.stop_how, _jobs.c.stop_reason, *(_jobs.c[name] for name in _STANDS)
).where(_jobs.c.id == bindparam("job"))  # fmt: skip
_NOTE = (
    update(_jobs)
    .where(_jobs.c.id == bindparam("job"), _jobs.c.attempt == bindparam("number"))
    .values({name: bindparam(f"new_{name}") for name in _STANDS} | {"version": _jobs.c.version + 1})
)


def hold(session: Session, attempt: AttemptIdentity, settings: Settings) -> None:
    """Renew the lease, and keep everybody else from ending the attempt until this transaction is over.

    Every write of an attempt begins with this or with `hold_by_token`: an attempt that is over writes nothing.

    Raises:
        Conflict: `attempt-superseded`.
    """
    renewed = session.execute(_RENEW, {"attempt": attempt.id, "until": _end_of_lease(settings)})
    if cast("CursorResult[Any]", renewed).rowcount != 1:
        state = session.scalar(select(Attempt.state).where(Attempt.id == attempt.id))
        raise superseded(attempt.number, state or "gone")


def hold_by_token(session: Session, sent: AttemptToken, settings: Settings) -> AttemptIdentity:
    """Find out whose token was sent, and `hold` that attempt, in one statement.

    Raises:
        Unauthorized, Forbidden, Conflict: as `auth.running_attempt`.
    """
    values = {"attempt": sent.attempt_id, "token": sent.sha256, "until": _end_of_lease(settings)}
    row = session.execute(_RENEW_BY_TOKEN, values).one_or_none()
    if row is None:
        found = running_attempt(session, sent.sha256, str(sent.attempt_id))
        raise superseded(found.number, "gone")
    return AttemptIdentity(sent.attempt_id, row.job_id, row.number)


def _end_of_lease(settings: Settings) -> datetime:
    return now() + timedelta(seconds=settings.lease_s)


def heartbeat(session: Session, attempt: AttemptIdentity, beat: Heartbeat) -> HeartbeatAnswer:
    """Note where an attempt that is held stands, and say whether it shall stop."""
    job = session.execute(_STANDING, {"job": attempt.job_id}).one()
    # Once known, the number of steps stays: what another execution says is looked at when it ends.
    stands = {"phase": beat.phase, "step": beat.step, "total_steps": job.total_steps or beat.total_steps}
    stands |= {"steps_per_s": beat.steps_per_s}
    if any(getattr(job, name) != value for name, value in stands.items()):
        new = {f"new_{name}": value for name, value in stands.items()}
        session.execute(_NOTE, {"job": attempt.job_id, "number": attempt.number, **new})
    if job.phase != beat.phase:
        tell(session, attempt.job_id, "phase", beat.phase, attempt=attempt.number, data={"step": beat.step})
    if job.state != "stopping":
        return HeartbeatAnswer(action="continue")
    return HeartbeatAnswer(action="stop", how=job.stop_how, reason=job.stop_reason)
