"""Every change of a job's state. Nothing else writes `jobs.state`, `jobs.attempt` or `attempts.state`.

Each is a compare-and-swap: an UPDATE that names the state it expects and does nothing when somebody was faster. Rows are
locked in one order, attempt before job, so that two transitions never wait for each other.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, func, or_, select, update
from sqlalchemy.orm import Session

from app.auth import hash_token, new_token, superseded
from app.errors import Conflict, NotFound
from app.jobs import checkpoints, queueing, refusals, tasks
from app.jobs.beginning import Beginning
from app.jobs.rules import Ending, Outcome, StopFor, Verdict, decide
from app.jobs.timeline import tell
from app.queue import ring_after_commit
from app.settings import Settings
from app.tables import Attempt, Job, Worker
from app.tables.base import now
from app.wire.jobs import Cause
from app.wire.problems import Problem
from app.wire.states import FINAL_STATES
from app.wire.transfer import TransferPlan
from app.wire.worker import ClaimRequest

WAITING = frozenset({"checking", "queued", "paused"})
ACTIVE = frozenset({"running", "stopping"})
IDLE = {"phase": None, "steps_per_s": None, "stop_how": None, "stop_reason": None, "stop_for": None}
"""What a job without a running attempt looks like."""


@dataclass(frozen=True)
class Claimed:
    """A claim that was granted. The token is shown this once; only its hash is stored."""

    job: Job
    attempt: Attempt
    token: str


def enqueue(session: Session, job: Job) -> None:
    """Put a new job into the queue and ring for it after the commit."""
    job.state, job.attempt, job.queued_at, job.rung_at = "queued", 0, now(), now()
    session.add(job)
    session.flush()
    tell(session, job.id, "submitted", f"submitted and queued: {tasks.amount(job)}")
    ring_after_commit(session, job, 1)


def hold(session: Session, job: Job) -> None:
    """Keep a new job out of the queue until its plan is made, which needs a worker to list its model's tensors."""
    job.state, job.attempt = "checking", 0
    session.add(job)
    session.flush()
    words = "waits for a worker to list its model's tensors"
    tell(session, job.id, "submitted", f"submitted: {tasks.amount(job)}; {words}")


def pass_check(session: Session, job_id: int, plan: TransferPlan) -> bool:
    """Give a job its plan, and queue it unless it is paused; return False when it is not waiting for one any more."""
    job = _awaiting_plan(session, job_id)
    if job is None:
        return False
    at, made = now(), {"plan": plan.model_dump(mode="json")}
    words = f"{plan.kept} of {plan.parameters} parameters come from {plan.base}"
    if job.state == "paused":
        _swap(session, job_id, {"paused"}, values=made)
        tell(session, job_id, "planned", f"planned: {words}")
        return True
    _swap(session, job_id, {"checking"}, values=made | {"state": "queued", "queued_at": at, "rung_at": at})
    tell(session, job_id, "queued", f"queued: {words}")
    ring_after_commit(session, job, 1)
    return True


def fail_check(session: Session, job_id: int, problems: Sequence[Problem]) -> bool:
    """Fail a job that cannot start from its base, with all the reasons; return False when it is not waiting any more."""
    if _awaiting_plan(session, job_id) is None:
        return False
    first = problems[0]
    others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    cause = Cause(
        failure="configuration",
        message=first.message + others,
        hint=first.hint,
        detail="\n".join(_in_words(problem) for problem in problems),
    )
    values = IDLE | {"state": "failed", "ended_at": now(), "cause": cause.model_dump()}
    _swap(session, job_id, {"checking", "paused"}, values=values)
    for problem in problems:
        tell(session, job_id, "problem", _in_words(problem), data=problem.model_dump(exclude_none=True))
    tell(session, job_id, "failed", f"cannot start: {cause.message}", data=cause.model_dump(exclude_none=True))
    return True


def _awaiting_plan(session: Session, job_id: int) -> Job | None:
    """Return a job that waits for its plan, locked: `checking`, or paused while it was."""
    job = session.get_one(Job, job_id, with_for_update=True, populate_existing=True)
    return job if job.state == "checking" or (job.state == "paused" and job.plan is None) else None


def _in_words(problem: Problem) -> str:
    place = f" ({problem.pointer})" if problem.pointer else ""
    return f"{problem.message}{place}" + (f". {problem.hint}" if problem.hint else "")


def claim(session: Session, worker: Worker, request: ClaimRequest, beginning: Beginning, settings: Settings) -> Claimed:
    """Give the execution that a worker asks for to it, if nobody else has it. `beginning` is what it is given.

    Raises:
        Conflict: `not-claimable`: the job is gone, taken, over, not due yet, or not for this worker's engines.
    """
    at = now()
    granted = _swap(
        session,
        request.job_id,
        {"queued"},
        Job.attempt == request.attempt - 1,
        *queueing.claimable(worker, request.slots),
        values=IDLE
        | {"state": "running", "attempt": request.attempt, "phase": "starting", "step": beginning.step}
        | {"started_at": func.coalesce(Job.started_at, at), "not_before": None},
    )
    if not granted:
        raise queueing.not_claimable(session, worker, request)
    token = new_token("attempt")
    attempt = Attempt(
        job_id=request.job_id,
        number=request.attempt,
        state="running",
        worker_id=worker.id,
        worker_name=worker.name,
        token_sha256=hash_token(token),
        lease_expires_at=at + timedelta(seconds=settings.lease_s),
        start_step=beginning.step,
        started_at=at,
    )
    session.add(attempt)
    session.flush()
    if beginning.warning:
        tell(session, request.job_id, "damaged", beginning.warning, attempt=request.attempt)
    message = f"taken by {worker.name} on {worker.host}, {beginning.words}"
    tell(
        session,
        request.job_id,
        "claimed",
        message,
        attempt=request.attempt,
        data={"worker": worker.name, "begin": beginning.kind},
    )
    return Claimed(session.get_one(Job, request.job_id, populate_existing=True), attempt, token)


def end(
    session: Session,
    attempt_id: int,
    outcome: Outcome,
    *,
    step: int,
    total_steps: int = 0,
    cause: Cause | None,
    settings: Settings,
) -> str:
    """End a running attempt as proposed, decide what becomes of its job, and return the job's new state.

    `total_steps` is what its trainer counted, 0 when it did not.

    Raises:
        Conflict: `attempt-superseded`: the attempt is not running any more.
    """
    attempt = session.get_one(Attempt, attempt_id, with_for_update=True, populate_existing=True)
    if attempt.state != "running":
        raise superseded(attempt.number, attempt.state)
    job = session.get_one(Job, attempt.job_id, with_for_update=True, populate_existing=True)
    newest = max(job.start_step, checkpoints.newest_step(session, job.id))
    ending = Ending(
        outcome=outcome,
        step=step,
        total_steps=job.total_steps or total_steps,
        counted=total_steps,
        unit=tasks.unit(job),
        saved=newest,
        stopping_for=_stopping_for(job),
        cause=cause,
        fruitless=_fruitless(session, job, attempt.number, newest),
        max_attempts=settings.max_attempts,
    )
    verdict = decide(ending)
    attempt.state, attempt.ended_at = verdict.attempt, now()
    attempt.cause = verdict.cause.model_dump() if verdict.cause else None
    session.flush()
    _conclude(session, job, attempt.number, verdict, ending, newest)
    return verdict.job


def _conclude(session: Session, job: Job, number: int, verdict: Verdict, ending: Ending, newest: int) -> None:
    values: dict[str, Any] = IDLE | {"total_steps": ending.total_steps}
    if verdict.job == "queued":
        values |= {"queued_at": now(), "step": newest} | _when(verdict.pause_s)
    elif verdict.job == "paused":
        values |= {"step": newest, "stop_reason": job.stop_reason}
    else:
        values |= {"ended_at": now(), "step": ending.step}
        values |= {"cause": verdict.cause.model_dump() if verdict.cause else None}
        values |= {"stop_reason": job.stop_reason}
    swapped = _swap(session, job.id, ACTIVE, Job.attempt == number, values=values | {"state": verdict.job})
    assert swapped, f"job {job.id} changed under the lock of its attempt {number}"
    kind = "requeued" if verdict.job == "queued" else verdict.job
    data = verdict.cause.model_dump(exclude_none=True) if verdict.cause else {}
    tell(session, job.id, kind, verdict.message, attempt=number, data=data)
    if verdict.job == "queued" and not verdict.pause_s:
        ring_after_commit(session, job, number + 1)


def _when(pause_s: float) -> dict[str, Any]:
    """Return when a requeued job is rung: at once, or by the reconciler once its pause is over."""
    if not pause_s:
        return {"not_before": None, "rung_at": now()}
    return {"not_before": now() + timedelta(seconds=pause_s), "rung_at": None}


def _stopping_for(job: Job) -> StopFor | None:
    if job.state != "stopping":
        return None
    return "pause" if job.stop_for == "pause" else "cancel"


def _fruitless(session: Session, job: Job, number: int, newest: int) -> int:
    """Count lost and killed executions, this one included, that started no earlier than the newest checkpoint."""
    rows = session.execute(
        select(Attempt.state, Attempt.cause).where(
            Attempt.job_id == job.id,
            Attempt.number.between(job.forgiven + 1, number - 1),
            Attempt.start_step >= newest,
        )
    )
    return 1 + sum(1 for state, cause in rows if state == "lost" or cause is not None)


def expire(session: Session, attempt_id: int, settings: Settings) -> str | None:
    """End an attempt whose lease has run out; return the job's new state, or None when it was renewed meanwhile."""
    attempt = session.get_one(Attempt, attempt_id, with_for_update=True, populate_existing=True)
    if attempt.state != "running" or attempt.lease_expires_at > now():
        return None
    step = session.get_one(Job, attempt.job_id).step
    cause = Cause(
        failure="host-lost",
        message=f"{attempt.worker_name} was not heard of for {settings.lease_s:.0f} s",
        step=step,
    )
    return end(session, attempt_id, "lost", step=step, cause=cause, settings=settings)


def cancel(session: Session, job_id: int, *, at_once: bool, reason: str) -> None:
    """Cancel a job: one that waits is over; one that runs is asked to stop, after a checkpoint unless `at_once`.

    Asking again changes nothing, except that `at_once` overrules an earlier request for a checkpoint first. A pause is
    overruled.

    Raises:
        NotFound: there is no such job.
        Conflict: `job-finished`: it is completed or failed.
    """
    ended = IDLE | {"state": "cancelled", "ended_at": now(), "stop_reason": reason}
    if _swap(session, job_id, WAITING, values=ended):
        tell(session, job_id, "cancelled", f"cancelled while it waited: {reason}")
        return
    how = "now" if at_once else "checkpoint"
    overruled = or_(Job.state == "running", Job.stop_for == "pause")
    if at_once:
        overruled = or_(overruled, Job.stop_how != how)
    if _swap(session, job_id, ACTIVE, overruled, values=_stopping("cancel", how, reason)):
        words = "at once" if at_once else "after a checkpoint"
        tell(session, job_id, "stop-requested", f"asked to stop {words}: {reason}")
        return
    job = _locked(session, job_id)
    if job.state in FINAL_STATES - {"cancelled"}:
        raise Conflict(f"job {job_id} is {job.state} already", code="job-finished")


def pause(session: Session, job_id: int, *, reason: str) -> None:
    """Pause a job: one that waits stays out of the queue; one that runs is asked to stop after a checkpoint.

    A paused job keeps its checkpoints and waits until it is resumed. Pausing it again changes nothing. One whose plan is
    not made yet is planned all the same.

    Raises:
        NotFound: there is no such job.
        Conflict: `job-finished`: it is over. `being-cancelled`: it stops for good.
    """
    if _swap(session, job_id, WAITING - {"paused"}, values=IDLE | {"state": "paused", "stop_reason": reason}):
        tell(session, job_id, "paused", f"paused while it waited: {reason}")
        return
    if _swap(session, job_id, {"running"}, values=_stopping("pause", "checkpoint", reason)):
        tell(session, job_id, "stop-requested", f"asked to pause after a checkpoint: {reason}")
        return
    job = _locked(session, job_id)
    if job.state in FINAL_STATES:
        raise Conflict(f"job {job_id} is {job.state}: there is nothing to pause", code="job-finished")
    if job.state == "stopping" and job.stop_for != "pause":
        raise refusals.being_cancelled(job)


def resume(session: Session, job_id: int, *, reason: str) -> None:
    """Put a paused job back where it was: into the queue, or waiting for its plan. It goes on from its newest checkpoint.

    Nothing happens to a job that waits or runs.

    Raises:
        NotFound: there is no such job.
        Conflict: `still-stopping`: its execution has not stopped yet. `being-cancelled`: it stops for good.
            `job-finished`: it is over.
    """
    job = _locked(session, job_id)
    if job.state == "paused":
        _go_on(session, job, "resumed", f"queued again: {reason}")
    elif job.state == "stopping" and job.stop_for != "pause":
        raise refusals.being_cancelled(job)
    elif job.state == "stopping":
        message = f"job {job_id} is still writing the checkpoint for its pause"
        raise Conflict(message, code="still-stopping", hint="Resume it as soon as it is paused.")
    elif job.state in FINAL_STATES:
        other = "extend it to more steps" if job.state == "completed" else "retry it"
        message = f"job {job_id} is {job.state}, not paused"
        raise Conflict(message, code="job-finished", hint=f"To go on from its newest checkpoint, {other}.")


def retry(session: Session, job_id: int, beginning: Beginning, *, force: bool, reason: str) -> None:
    """Queue a failed or cancelled job again: it goes on with `beginning`, and its executions are numbered on.

    Raises:
        NotFound: there is no such job.
        Conflict: `not-ended`: it is not over. `job-finished`: it is completed. `never-planned`: it ended before it could
            have run. `would-fail-again`: its configuration or data were wrong, and not `force`.
    """
    job = _locked(session, job_id)
    refusals.check_retriable(job, force=force)
    words = f"queued again: {reason}, {beginning.words}"
    _go_on(session, job, "retried", words, step=beginning.step)
    # What was said about equal runs was said about how they ended; once both have ended again, it is said anew.
    pair = Job.reproduction.is_not(None), or_(Job.id == job_id, Job.reproduces_id == job_id)
    session.execute(update(Job).where(*pair).values(reproduction=None, version=Job.version + 1))


def _go_on(session: Session, job: Job, kind: str, words: str, **changes: Any) -> None:
    """Let a job that somebody held wait again; `job` is locked. What its executions died of before counts no more."""
    values: dict[str, Any] = IDLE | {"forgiven": job.attempt, "not_before": None, "cause": None, "ended_at": None}
    if refusals.awaits_plan(job):
        values |= {"state": "checking"}
    else:
        values |= {"state": "queued", "queued_at": now(), "rung_at": now()}
        ring_after_commit(session, job, job.attempt + 1)
    swapped = _swap(session, job.id, {job.state}, values=values | changes)
    assert swapped, f"job {job.id} changed under its own lock"
    tell(session, job.id, kind, words)


def _stopping(why: StopFor, how: str, reason: str) -> dict[str, str]:
    return {"state": "stopping", "stop_for": why, "stop_how": how, "stop_reason": reason}


def _locked(session: Session, job_id: int) -> Job:
    """Return a job as it stands, and keep it so until this transaction is over."""
    job = session.get(Job, job_id, with_for_update=True, populate_existing=True)
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    return job


def _swap(session: Session, job_id: int, states: Collection[str], *conditions: Any, values: Mapping[str, Any]) -> bool:
    """Change a job that is in one of `states` and meets the conditions; return whether it was."""
    statement = (
        update(Job)
        .where(Job.id == job_id, Job.state.in_(states), *conditions)
        .values(version=Job.version + 1, **values)
        .execution_options(synchronize_session=False)
    )
    return cast("CursorResult[Any]", session.execute(statement)).rowcount == 1
