"""Trainings that have completed are measured on the data held out for them: a job for each dataset, submitted by upkeep."""

import hashlib
import logging

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts.store import BlobStore, open_store
from app.db import reading, transaction
from app.engines.documents import canonical
from app.errors import AppError, Conflict
from app.jobs import held_out, intake, preparation, service
from app.jobs.submission import SubmitRequest
from app.jobs.timeline import tell, touch
from app.settings import Settings
from app.tables import Job
from app.wire.base import MAX_NAME
from app.wire.jobs import JobSubmit

log = logging.getLogger(__name__)

BATCH = 20


def submit_due(sessions: sessionmaker[Session], settings: Settings) -> int:
    """Submit what measures the trainings that have completed; return how many jobs that were.

    Safe in several processes at once, and after a crash: each has an idempotency key of its own.
    """
    with reading(sessions) as session:
        query = select(Job.id).where(Job.state == "completed", Job.test_on.is_not(None))
        due = session.scalars(query.order_by(Job.id).limit(BATCH)).all()
    store = open_store(settings) if due else None
    return sum(_measure(sessions, settings, store, job_id) for job_id in due if store is not None)


def _measure(sessions: sessionmaker[Session], settings: Settings, store: BlobStore, job_id: int) -> int:
    """Submit a job for each dataset; what cannot be is told on the training's timeline, and not tried again."""
    with reading(sessions) as session:
        job = service.get(session, job_id)
        wanted = list(job.test_on or ())
        made = {text: _submission(job, text) for text in wanted}
    submitted = 0
    for text, submit in made.items():
        try:
            number = _submit(sessions, settings, store, job_id, text, submit)
        except AppError as error:
            words, data = (
                f"not measured on {text}: {error.problem.message}",
                error.problem.model_dump(exclude_none=True),
            )
            with transaction(sessions) as session:
                tell(session, job_id, "warning", words, data=data)
        else:
            submitted += 1
            log.info("job %s measures job %s on %s", number, job_id, text)
    with transaction(sessions) as session:
        job = session.get_one(Job, job_id, with_for_update=True)
        left = [text for text in job.test_on or () if text not in wanted]  # named since this round began
        job.test_on = left or None
        touch(session, job_id)
    return submitted


def _submission(job: Job, text: str) -> JobSubmit:
    kind = held_out.measuring(preparation.find_engine(job.engine))
    assert kind is not None, "refused when the data were named"
    [one] = held_out.uses([text], "")
    of_task = f" ({one.head})" if one.head else ""
    end = f"{of_task} on {one.use.text.removeprefix('dataset:')}"
    return JobSubmit(
        kind=kind[0],
        engine=job.engine,
        name=job.name[: max(1, MAX_NAME - len(end))] + end[: MAX_NAME - 1],
        config=held_out.asked([f"job:{job.id}"], one),
        priority=job.priority,
        determinism=job.determinism,
    )


def _submit(
    sessions: sessionmaker[Session], settings: Settings, store: BlobStore, job_id: int, text: str, submit: JobSubmit
) -> int:
    document = submit.model_dump(mode="json", exclude_defaults=True)
    prepared = intake.prepare(sessions, settings, store, submit)
    digest = hashlib.sha256(canonical(document).encode()).hexdigest()
    named = hashlib.sha256(canonical([digest, prepared.resolution.digest]).encode()).hexdigest()  # type: ignore[union-attr]
    request = SubmitRequest(document, digest, f"cairn/measure/{job_id}/{named}")
    with transaction(sessions) as session:
        answer = intake.accept(session, store, prepared, request)
        if answer.new:
            words = f"measured on {text} by job {answer.job.id}"
            tell(session, job_id, "measured", words, data={"job": answer.job.id})
        return answer.job.id


def name_data(session: Session, job_id: int, texts: list[str]) -> None:
    """Say on which data a training is measured once it has completed; one that has is measured soon.

    Raises:
        NotFound: there is no such job.
        Conflict: `no-training`: it trains nothing.
        Invalid: with everything for which its model cannot be measured on them.
    """
    job = service.get(session, job_id)
    if job.kind != "train":
        raise Conflict(f"job {job_id} is a {job.kind} job: only trainings are measured", code="no-training")
    engine = preparation.find_engine(job.engine)
    job.test_on = preparation.settle_held_out(session, engine, texts, "/data", job.resolved) or None
    tell(session, job_id, "changed", f"to be measured on {', '.join(job.test_on) if job.test_on else 'no data'}")
    touch(session, job_id)
