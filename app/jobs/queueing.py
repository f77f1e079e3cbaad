"""Which of the jobs that wait a worker is given, and why not the one that it asked for."""

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from app.errors import Conflict
from app.queue import ring_after_commit
from app.tables import Job, Worker
from app.tables.base import now
from app.wire.worker import ClaimRequest


def most_urgent(session: Session, worker: Worker, asked: ClaimRequest) -> ClaimRequest:
    """Return the claim to grant: the one asked for, unless a job of higher priority waits.

    Messages are answered in the order in which they were sent; priorities hold all the same.
    """
    priority = session.scalar(select(Job.priority).where(Job.id == asked.job_id, *claimable(worker)))
    if priority is None:
        return asked
    statement = select(Job.id, Job.attempt).where(Job.priority > priority, *claimable(worker))
    first = session.execute(statement.order_by(Job.priority.desc(), Job.id).limit(1)).one_or_none()
    if first is None:
        return asked
    return ClaimRequest(worker_id=worker.id, job_id=first.id, attempt=first.attempt + 1)


def claimable(worker: Worker) -> tuple[ColumnElement[bool], ...]:
    """Return what holds for every job that a worker may be given now."""
    due = or_(Job.not_before.is_(None), Job.not_before <= now())
    return Job.state == "queued", Job.engine.in_(list(worker.engines)), due


def ring_again(session: Session, request: ClaimRequest) -> None:
    """Ring for a job whose message was used up by a more urgent one."""
    job = session.get_one(Job, request.job_id)
    ring_after_commit(session, job.engine, job.id, request.attempt)


def not_claimable(session: Session, worker: Worker, request: ClaimRequest) -> Conflict:
    """Return why a worker was not given the job that it asked for."""
    job = session.get(Job, request.job_id, populate_existing=True)
    if job is None:
        why = "it does not exist"
    elif job.engine not in worker.engines:
        why = f"it needs the engine {job.engine}, which this worker lacks"
    elif job.state != "queued":
        why = f"it is {job.state}"
    elif job.attempt != request.attempt - 1:
        why = f"its next execution is number {job.attempt + 1}"
    else:
        why = f"it is not due before {job.not_before}"
    message = f"execution {request.attempt} of job {request.job_id} cannot be claimed: {why}"
    return Conflict(message, code="not-claimable", hint="Forget this message.")
