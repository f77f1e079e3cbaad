"""Running a job again from its frozen spec, and what came of it."""

import hashlib
import logging
from collections.abc import Iterable
from importlib.metadata import version as installed_version
from typing import Any, cast

from sqlalchemy import CursorResult, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased, sessionmaker

from app.artifacts.store import BlobStore
from app.db import reading, transaction
from app.engines.documents import canonical
from app.errors import Conflict
from app.jobs import leaves, provenance, service, subjects, tasks, transitions
from app.jobs.comparison_reading import compare, recorded_library
from app.jobs.preparation import find_engine
from app.jobs.submission import SubmitRequest, find_repeated
from app.jobs.timeline import tell, touch
from app.settings import Settings
from app.tables import BaseModel, Event, Job, JobDataset, JobLeaf
from app.wire.base import MAX_NAME
from app.wire.comparison import Comparison, Reproduce
from app.wire.resolution import Origin
from app.wire.states import FINAL_STATES

log = logging.getLogger(__name__)

FROZEN = (
    "kind", "engine", "priority", "tags", "submitted", "resolved", "origins", "warnings", "seed", "seeds", "determinism",
    "start", "base_model_id", "plan", "start_step", "checkpoint_policy", "gpus", "total_steps",
)  # fmt: skip
"""Columns that a reproduction takes over: nothing is resolved or planned again."""

PREFIX = "reproduction of "

BATCH = 20
"""Verdicts of one round of upkeep, so that it soon gets to its other work."""


def check(session: Session, store: BlobStore, job_id: int, *, allow_other_versions: bool) -> None:
    """Make sure that a job can be run again; only reads.

    Raises:
        NotFound: there is no such job.
        Conflict: `nothing-to-reproduce`: it was never run. `spec-incomplete`: bytes of its data or base are gone.
            `other-version`: it ran with another version of its engine's library, and that is not allowed.
    """
    job = service.get(session, job_id)
    if not job.attempt:
        raise Conflict(
            f"job {job_id} was never run, so there is nothing to compare a reproduction with",
            code="nothing-to-reproduce",
            hint="Submit its configuration as a new job.",
        )
    if gone := _gone(session, store, job):
        raise Conflict(
            f"job {job_id} cannot be reproduced: {' and '.join(gone)} not in the store any more",
            code="spec-incomplete",
            hint="Upload the same files again, or restore the store from a backup: equal content has the same digest.",
        )
    if not allow_other_versions and (other := other_version(session, job)):
        library, there, here = other
        raise Conflict(
            f"job {job_id} ran with {library} {there}, and this server has {here}: equal bits are not to be expected",
            code="other-version",
            hint=f"Install {library} {there}, or allow it (`--allow-other-versions`): the comparison lists it.",
        )


def _gone(session: Session, store: BlobStore, job: Job) -> list[str]:
    """Return in words which of a job's inputs have lost their bytes."""
    wanted = {
        f"the dataset {row.name}@{row.version}": row.blob_sha256 for row in session.scalars(provenance.datasets_of(job))
    }
    if job.base_model_id is not None:
        base = session.get_one(BaseModel, job.base_model_id)
        wanted[f"the base model {base.name}@{base.version}"] = base.blob_sha256
    wanted |= {f"the model {model.name}": model.blob_sha256 for model in subjects.of_job(session, job.id)}
    return [f"{what} ({sha256[:12]}) is" for what, sha256 in wanted.items() if store.size(sha256) is None]


def other_version(session: Session, job: Job) -> tuple[str, str, str] | None:
    """Return the engine's library, its version when the job ran, and this server's; None unless these two differ."""
    library = find_engine(job.engine).library
    there, here = recorded_library(session, job), installed_version(library)
    return None if there in (None, here) else (library, str(there), here)


def create(session: Session, job_id: int, wanted: Reproduce, key: str | None) -> tuple[Job, bool]:
    """Store and queue a job with another one's frozen spec; return it and whether it is new.

    A repeated idempotency key is answered with the job of the first time. The caller has called `check`.
    """
    request = SubmitRequest({}, _digest({"reproduce": job_id, **wanted.model_dump()}), key)
    if earlier := find_repeated(session, request):
        return earlier, False
    original = service.get(session, job_id)
    job = _job(session, original, wanted, request)
    try:
        with session.begin_nested():
            session.add(job)
            session.flush()
    except IntegrityError:
        # The same key at the same moment: the other one was faster.
        earlier = find_repeated(session, request)
        if earlier is None:
            raise
        return earlier, False
    for dataset in session.scalars(provenance.datasets_of(original)).all():
        session.add(JobDataset(job_id=job.id, dataset_id=dataset.id))
    subjects.copy(session, original.id, job.id)
    origins = {at: Origin.model_validate(origin) for at, origin in job.origins.items()}
    session.execute(insert(JobLeaf), leaves.rows(job.id, job.resolved, origins))
    transitions.enqueue(session, job)
    tell(session, job.id, "reproduces", f"runs job {original.id} again, {original.name}", data={"job": original.id})
    session.flush()
    return job, True


def _job(session: Session, original: Job, wanted: Reproduce, request: SubmitRequest) -> Job:
    name = wanted.name or (PREFIX + original.name.removeprefix(PREFIX))[:MAX_NAME]
    digest = original.digest
    if other := other_version(session, original):
        digest = _digest({"spec": digest, "library": other[2]})  # equal digests would say: the same training
    return Job(
        **{column: getattr(original, column) for column in FROZEN},
        name=name,
        state="checking",
        step=original.start_step,
        digest=digest,
        file_stem=tasks.file_stem(
            find_engine(original.engine), original.kind, name, original.resolved, original.seed, digest
        ),
        reproduces_id=original.id,
        idempotency_key=request.key,
        request_digest=request.digest,
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def conclude(sessions: sessionmaker[Session], _: Settings) -> int:
    """Compare every reproduction that has ended with its original, once both have; return how many.

    Safe in several processes at once, and after a crash: what has no verdict yet is compared.
    """
    with reading(sessions) as session:
        due = _due(session)
    concluded = 0
    for job_id, original_id in due:
        try:
            with reading(sessions) as session:
                found = compare(session, original_id, job_id)
            with transaction(sessions) as session:
                concluded += _record(session, job_id, found)
        except Exception:  # one that cannot be compared must not keep the others from it
            log.exception("job %s could not be compared with job %s; it will be tried again", job_id, original_id)
    return concluded


def summaries(session: Session, job_ids: Iterable[int]) -> dict[int, str]:
    """Return in words what came of reproductions, by job; of those that have a verdict."""
    query = select(Event.job_id, Event.message).where(Event.job_id.in_(job_ids), Event.kind == "reproduction")
    return {row.job_id: row.message for row in session.execute(query.order_by(Event.id))}


def _due(session: Session) -> list[tuple[int, int]]:
    original = aliased(Job)
    query = (
        select(Job.id, original.id)
        .join(original, original.id == Job.reproduces_id)
        .where(Job.reproduces_id.is_not(None), Job.reproduction.is_(None))
        .where(Job.state.in_(FINAL_STATES), original.state.in_(FINAL_STATES))
    )
    return [(job_id, original_id) for job_id, original_id in session.execute(query.order_by(Job.id).limit(BATCH))]


def _record(session: Session, job_id: int, found: Comparison) -> bool:
    """Put a verdict on a reproduction and its timeline, unless another process has."""
    changed = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.reproduction.is_(None))
        .values(reproduction=found.verdict, version=Job.version + 1)
        .execution_options(synchronize_session=False)
    )
    if cast("CursorResult[Any]", changed).rowcount != 1:
        return False
    told = found.model_dump(mode="json", include={"verdict", "steps", "checkpoints", "divergence", "fingerprint"})
    touch(session, found.left.job)  # it is shown as proof there
    tell(session, job_id, "reproduction", found.summary, data={"job": found.left.job} | told)
    return True
