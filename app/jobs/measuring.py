"""Trainings are measured on the data held out for them, at their last checkpoint and at chosen ones: upkeep submits the jobs."""

import hashlib
import logging
from dataclasses import dataclass

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts.store import BlobStore, open_store
from app.db import reading, transaction
from app.engines.documents import canonical
from app.errors import AppError, Conflict, Invalid, Unavailable
from app.jobs import chosen, held_out, intake, preparation, service
from app.jobs.chosen import Chosen
from app.jobs.retention import newest_first, policy_of
from app.jobs.submission import SubmitRequest
from app.jobs.timeline import tell, touch
from app.settings import Settings
from app.tables import Checkpoint, Job
from app.wire.base import MAX_NAME
from app.wire.measuring import MeasureOn
from app.wire.submission import JobSubmit

log = logging.getLogger(__name__)

BATCH = 20


def submit_due(sessions: sessionmaker[Session], settings: Settings) -> int:
    """Submit what measures trainings at the checkpoints that have come; return how many jobs that were.

    Safe in several processes at once, and after a crash: each has an idempotency key of its own.
    """
    chose = or_(Job.test_at.is_not(None), Job.test_every.is_not(None))
    has_new = select(Checkpoint.id).where(Checkpoint.job_id == Job.id, Checkpoint.id > Job.tested_until).exists()
    is_due = or_(Job.state == "completed", and_(chose, has_new))
    with reading(sessions) as session:
        due = session.scalars(
            select(Job.id).where(Job.test_on.is_not(None), is_due).order_by(Job.id).limit(BATCH)
        ).all()
    store = open_store(settings) if due else None
    return sum(_measure(sessions, settings, store, job_id) for job_id in due if store is not None)


@dataclass(frozen=True)
class _Round:
    """What is to be measured of a training now."""

    job_id: int
    data: list[str]
    choice: Chosen
    steps: list[int]
    until: int
    """Id of the newest checkpoint that was looked at."""
    is_last: bool
    """Whether no further checkpoint will come."""
    submissions: dict[tuple[str, int], JobSubmit]
    """By the data and the step."""


def _round(session: Session, job_id: int) -> _Round:
    job = service.get(session, job_id)
    rows = session.scalars(newest_first(job_id)).all()
    steps = {row.step for row in rows if chosen.is_due(job, row)}
    is_last = job.state == "completed"
    if is_last:
        steps |= {row.step for row in rows[:1]}
    data = list(job.test_on or ())
    return _Round(
        job_id,
        data,
        chosen.of(job),
        sorted(steps),
        max((row.id for row in rows), default=0),
        is_last,
        {(text, step): _submission(job, text, step) for step in sorted(steps) for text in data},
    )


def _measure(sessions: sessionmaker[Session], settings: Settings, store: BlobStore, job_id: int) -> int:
    """Submit a job for each checkpoint and dataset; what cannot be is told on the training's timeline, and not tried again.

    Nothing is settled while a part of the service is away: the next round does it.
    """
    with reading(sessions) as session:
        found = _round(session, job_id)
    if found.is_last and not found.steps:
        with transaction(sessions) as session:
            tell(session, job_id, "warning", f"not measured on {', '.join(found.data)}: no checkpoint is there")
    submitted = 0
    for (text, step), submit in found.submissions.items():
        try:
            number = _submit(sessions, settings, store, found, text, submit)
        except Unavailable as error:
            log.warning("job %s is measured on %s later: %s", job_id, text, error.problem.message)
            return submitted
        except AppError as error:
            problem = error.problem
            words = f"step {step} not measured on {text}: {problem.message}"
            with transaction(sessions) as session:
                tell(session, job_id, "warning", words, data=problem.model_dump(exclude_none=True))
        else:
            submitted += 1
            log.info("job %s measures job %s at step %s on %s", number, job_id, step, text)
    with transaction(sessions) as session:
        _settle(session, found)
    return submitted


def _settle(session: Session, found: _Round) -> None:
    """Note what was done. When somebody has changed meanwhile what is wanted, nothing is: what has a job gets no second one."""
    job = session.get_one(Job, found.job_id, with_for_update=True, populate_existing=True)
    if (list(job.test_on or ()), chosen.of(job)) == (found.data, found.choice):
        job.tested_until = max(job.tested_until, found.until)
        if found.is_last:
            job.test_on = job.test_at = job.test_every = None
    if found.is_last or found.submissions:
        touch(session, found.job_id)


def _submission(job: Job, text: str, step: int) -> JobSubmit:
    kind = held_out.measuring(preparation.find_engine(job.engine))
    assert kind is not None, "refused when the data were named"
    [one] = held_out.uses([text], "")
    of_task = f" ({one.head})" if one.head else ""
    end = f"@{step}{of_task} on {one.use.text.removeprefix('dataset:')}"
    return JobSubmit(
        kind=kind[0],
        engine=job.engine,
        name=job.name[: max(1, MAX_NAME - len(end))] + end[: MAX_NAME - 1],
        config=held_out.asked([f"job:{job.id}@{step}"], one),
        priority=job.priority,
        determinism=job.determinism,
    )


def _submit(
    sessions: sessionmaker[Session], settings: Settings, store: BlobStore, found: _Round, text: str, submit: JobSubmit
) -> int:
    document = submit.model_dump(mode="json", exclude_defaults=True)
    prepared = intake.prepare(sessions, settings, store, submit)
    digest = hashlib.sha256(canonical(document).encode()).hexdigest()
    named = hashlib.sha256(canonical([digest, prepared.resolution.digest]).encode()).hexdigest()  # type: ignore[union-attr]
    request = SubmitRequest(document, digest, f"cairn/measure/{found.job_id}/{named}")
    with transaction(sessions) as session:
        answer = intake.accept(session, store, prepared, request)
        if answer.new:
            words = f"{submit.config['models'][0]} measured on {text} by job {answer.job.id}"
            tell(session, found.job_id, "measured", words, data={"job": answer.job.id})
        return answer.job.id


def name_data(session: Session, job_id: int, wanted: MeasureOn) -> None:
    """Say on which data a training is measured, and at which checkpoints beside its last; what is there is measured soon.

    Raises:
        NotFound: there is no such job.
        Conflict: `no-training`: it trains nothing.
        Invalid: with everything for which its model cannot be measured on them, or not at these steps.
    """
    job = service.get(session, job_id)
    if job.kind != "train":
        raise Conflict(f"job {job_id} is a {job.kind} job: only trainings are measured", code="no-training")
    engine = preparation.find_engine(job.engine)
    data = preparation.settle_held_out(session, engine, wanted.data, "/data", job.resolved)
    choice = Chosen(tuple(wanted.at), wanted.every)
    interval = policy_of(job).every_steps or engine.checkpoint_interval(job.resolved)
    when = chosen.Writing(interval, job.start_step, job.total_steps, is_settled=True)
    problems = list(chosen.refused(choice, data, when, "/at", "/every", "/data"))
    if problems := problems or list(chosen.gone(session, job_id, choice, "/at")):
        raise Invalid(problems)
    job.test_on, job.test_at, job.test_every = data or None, wanted.at or None, wanted.every
    job.tested_until = 0  # what was measured already has a job, and is not measured again
    at = f", {choice} as well" if choice else ""
    tell(session, job_id, "changed", f"to be measured on {', '.join(data) or 'no data'}{at}")
    touch(session, job_id)
