"""Which of the jobs that wait a worker is given, and why not the one that it asked for."""

from datetime import timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, or_, select, update
from sqlalchemy.orm import Session

from app.errors import Conflict
from app.queue import ring_after_commit
from app.settings import Settings
from app.tables import Job, Worker
from app.tables.base import now
from app.wire.worker import ClaimRequest, Reserve


def capacity(worker: Worker) -> int:
    """Return the GPUs of the largest job that a worker can run: each needs a slot, and no two share a GPU."""
    return min(worker.slots, len(worker.gpus)) if worker.gpus else worker.slots


def most_urgent(session: Session, worker: Worker, asked: ClaimRequest) -> ClaimRequest:
    """Return the claim to grant: the one asked for, unless a job of higher priority waits that fits into its slots.

    Messages are answered in the order in which they were sent; priorities hold all the same.
    """
    fits = claimable(worker, asked.slots)
    priority = session.scalar(select(Job.priority).where(Job.id == asked.job_id, *fits))
    if priority is None:
        return asked
    statement = select(Job.id, Job.attempt).where(Job.priority > priority, *fits)
    first = session.execute(statement.order_by(Job.priority.desc(), Job.id).limit(1)).one_or_none()
    if first is None:
        return asked
    return asked.model_copy(update={"job_id": first.id, "attempt": first.attempt + 1})


def claimable(worker: Worker, slots: int) -> tuple[ColumnElement[bool], ...]:
    """Return what holds for every job that a worker with so many slots kept free may be given now."""
    due = or_(Job.not_before.is_(None), Job.not_before <= now())
    fits = Job.gpus <= min(slots, capacity(worker))
    return Job.state == "queued", Job.engine.in_(list(worker.engines)), fits, due


def ring_again(session: Session, request: ClaimRequest) -> None:
    """Ring for a job whose message was used up by a more urgent one."""
    ring_after_commit(session, session.get_one(Job, request.job_id), request.attempt)


def reserve(session: Session, worker: Worker, wanted: Reserve) -> bool:
    """Return whether a worker should go on keeping slots free for a job. While it asks, nobody else is rung for it."""
    waits = (
        update(Job)
        .where(Job.id == wanted.job_id, Job.attempt == wanted.attempt - 1, *claimable(worker, capacity(worker)))
        # `updated_at` is what people see change; that somebody waits for slots is no change to them.
        .values(rung_at=now(), updated_at=Job.updated_at)
        .execution_options(synchronize_session=False)
    )
    return cast("CursorResult[Any]", session.execute(waits)).rowcount == 1


def not_claimable(session: Session, worker: Worker, request: ClaimRequest) -> Conflict:
    """Return why a worker was not given the job that it asked for."""
    job = session.get(Job, request.job_id, populate_existing=True)
    if job is None:
        why = "it does not exist"
    elif job.engine not in worker.engines:
        why = f"it needs the engine {job.engine}, which this worker lacks"
    elif job.gpus > capacity(worker):
        why = f"it needs {_gpus(job.gpus)}, and this worker has {capacity(worker)}"
    elif job.state != "queued":
        why = f"it is {job.state}"
    elif job.attempt != request.attempt - 1:
        why = f"its next execution is number {job.attempt + 1}"
    elif job.gpus > request.slots:
        why = f"it takes {job.gpus} slots, and {request.slots} are kept free for it"
    else:
        why = f"it is not due before {job.not_before}"
    message = f"execution {request.attempt} of job {request.job_id} cannot be claimed: {why}"
    return Conflict(message, code="not-claimable", hint="Forget this message.")


def unserved(session: Session, job: Job, settings: Settings) -> str | None:
    """Return why no worker that is alive could take a queued job; None when one could, or it is not queued."""
    if job.state != "queued":
        return None
    heard_of = Worker.last_seen_at > now() - timedelta(seconds=settings.lease_s)
    alive = [
        worker
        for worker in session.scalars(select(Worker).where(heard_of, Worker.stopped_at.is_(None)))
        if job.engine in worker.engines
    ]
    if not alive:
        return f"no worker of {job.engine} is alive; start one (`cairn up`, or `cairn worker`)"
    largest = max(capacity(worker) for worker in alive)
    if job.gpus > largest:
        return f"it needs {_gpus(job.gpus)} of one worker; the largest worker has {largest}"
    return None


def _gpus(count: int) -> str:
    return f"{count} GPU" + ("" if count == 1 else "s")
