"""Leases: a running attempt proves that it lives by what it sends."""

from datetime import timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from app.auth import AttemptIdentity, superseded
from app.jobs.timeline import tell
from app.settings import Settings
from app.tables import Attempt, Job
from app.tables.base import now
from app.wire.worker import Heartbeat, HeartbeatAnswer


def hold(session: Session, attempt: AttemptIdentity, settings: Settings) -> None:
    """Renew the lease, and keep everybody else from ending the attempt until this transaction is over.

    Every write of an attempt begins with this: an attempt that is over writes nothing.

    Raises:
        Conflict: `attempt-superseded`.
    """
    renewed = session.execute(
        update(Attempt)
        .where(Attempt.id == attempt.id, Attempt.state == "running")
        .values(lease_expires_at=now() + timedelta(seconds=settings.lease_s))
        .execution_options(synchronize_session=False)
    )
    if cast("CursorResult[Any]", renewed).rowcount != 1:
        state = session.scalar(select(Attempt.state).where(Attempt.id == attempt.id))
        raise superseded(attempt.number, state or "gone")


def heartbeat(session: Session, attempt: AttemptIdentity, beat: Heartbeat, settings: Settings) -> HeartbeatAnswer:
    """Renew the lease, note where the attempt stands, and say whether it shall stop."""
    hold(session, attempt, settings)
    job = session.execute(
        select(Job.state, Job.stop_how, Job.stop_reason, Job.phase, Job.step, Job.total_steps, Job.steps_per_s).where(
            Job.id == attempt.job_id
        )
    ).one()
    # Once known, the number of steps stays: what another execution says is looked at when it ends.
    stands = {"phase": beat.phase, "step": beat.step, "total_steps": job.total_steps or beat.total_steps}
    stands |= {"steps_per_s": beat.steps_per_s}
    if any(getattr(job, name) != value for name, value in stands.items()):
        session.execute(
            update(Job)
            .where(Job.id == attempt.job_id, Job.attempt == attempt.number)
            .values(**stands, version=Job.version + 1)
            .execution_options(synchronize_session=False)
        )
    if job.phase != beat.phase:
        tell(session, attempt.job_id, "phase", beat.phase, attempt=attempt.number, data={"step": beat.step})
    if job.state != "stopping":
        return HeartbeatAnswer(action="continue")
    return HeartbeatAnswer(action="stop", how=job.stop_how, reason=job.stop_reason)
