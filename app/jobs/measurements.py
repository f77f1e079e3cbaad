"""What jobs that measure models on data tell of trainings: found by the checkpoints that they work on, read from their files."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.artifacts.store import BlobStore
from app.engines import registry
from app.engines.documents import canonical
from app.errors import AppError
from app.jobs import provenance
from app.tables import Job, JobFile, JobModel
from app.wire.base import View
from app.wire.datasets import DatasetRef
from app.wire.measuring import ErrorPlots, ErrorReport, Measured, MeasuredPair, ModelPlots
from app.wire.models import BaseRef
from app.wire.relaxing import RelaxReport

log = logging.getLogger(__name__)

V = TypeVar("V", bound=View)

MOST = 50
"""Jobs that are looked at for one training, the newest."""
FEW = 3
"""So many systems are named one by one."""
MAX_BYTES = 32 << 20
"""A report larger than this is not read: it is there to download."""


def report(session: Session, store: BlobStore, job: Job) -> ErrorReport | None:
    """Return the errors that a job has measured; None when it measures none, or has not ended."""
    task = registry.task(job.engine, job.kind)
    return _read(session, store, job.id, task.report, ErrorReport) if task else None


def relaxed(session: Session, store: BlobStore, job: Job) -> RelaxReport | None:
    """Return where a job's structures went; None when it relaxes none, or has published nothing yet."""
    task = registry.task(job.engine, job.kind)
    return _read(session, store, job.id, task.relaxed, RelaxReport) if task else None


def plots(session: Session, store: BlobStore, job_id: int, found: ErrorReport) -> list[ModelPlots]:
    """Return the plots of a report; none when they cannot be read."""
    file = _read(session, store, job_id, found.plots_file, ErrorPlots)
    return file.models if file else []


def _read(session: Session, store: BlobStore, job_id: int, name: str | None, kind: type[V]) -> V | None:
    row = session.get(JobFile, (job_id, name)) if name else None
    if row is None or row.blob.size > MAX_BYTES:
        return None
    try:
        return kind.model_validate_json(b"".join(store.read(row.blob_sha256)))
    except (OSError, AppError, ValidationError):
        log.exception("job %s: %s cannot be read", job_id, name)
        return None


def of_training(session: Session, store: BlobStore, job_id: int) -> list[Measured]:
    """Return what was measured of a training's checkpoints, newest job first."""
    works = select(JobModel.job_id).where(JobModel.name.startswith(f"job:{job_id}@", autoescape=True))
    jobs = session.scalars(select(Job).where(Job.id.in_(works)).order_by(Job.id.desc()).limit(MOST)).all()
    return [row for job in jobs if _measures(job) for row in _of_job(session, store, job, job_id)]


def _measures(job: Job) -> bool:
    task = registry.task(job.engine, job.kind)
    return task is not None and task.report is not None


def _of_job(session: Session, store: BlobStore, job: Job, training: int) -> Iterator[Measured]:
    found = report(session, store, job) if job.state == "completed" else None
    errors = {one.model: one.overall for one in found.models} if found else {}
    digest = _data_digest(job, {f"{row.name}@{row.version}": row.digest for row in _datasets(session, job)})
    for text in job.resolved["models"]:
        ref = BaseRef.parse(text)
        if ref is None or ref.job != training or ref.step is None:
            continue
        yield Measured(
            job=job.id,
            name=job.name,
            state=job.state,
            step=ref.step,
            head=job.resolved.get("head"),
            data=_short(job.resolved["data"]),
            data_digest=digest,
            ended_at=job.ended_at,
            quantities=found.quantities if found else [],
            errors=errors.get(text, {}),
        )


def _datasets(session: Session, job: Job) -> Sequence[Any]:
    return session.scalars(provenance.datasets_of(job)).all()


def _data_digest(job: Job, digests: Mapping[str, str]) -> str:
    """Return what is equal for jobs that looked at the same frames, whatever the dataset is called."""
    systems = []
    for text in job.resolved["data"]:
        ref = DatasetRef.parse(text)
        assert ref is not None, "resolved data are references"
        systems.append([digests[f"{ref.name}@{ref.version}"], ref.system])
    return hashlib.sha256(canonical([systems, job.total_steps]).encode()).hexdigest()


def _short(data: Sequence[str]) -> list[str]:
    """Return the systems; of many only the versions that they belong to, each once."""
    if len(data) <= FEW:
        return list(data)
    refs = (DatasetRef.parse(text) for text in data)
    return list(dict.fromkeys(f"dataset:{ref.name}@{ref.version}" for ref in refs if ref))


def pairs(session: Session, store: BlobStore, left: int, right: int) -> list[MeasuredPair]:
    """Return two trainings' errors on the same data, each by the newest job that has completed.

    Of each data first the newest checkpoint of both, whatever its step, then those of equal steps, the last first. Tasks
    are compared by their names; the one model of a training that has no tasks with each.
    """
    ours, theirs = (_by_step(of_training(session, store, job_id)) for job_id in (left, right))
    return [
        MeasuredPair(left=one[steps[0]], right=other[steps[1]])
        for key, one in ours.items()
        for other_key, other in theirs.items()
        if _comparable(key, other_key)
        for steps in _steps(one, other)
    ]


_Key = tuple[str, str | None]
"""Digest of the data, and the task."""


def _comparable(one: _Key, other: _Key) -> bool:
    return one[0] == other[0] and (one[1] == other[1] or None in (one[1], other[1]))


def _steps(one: Mapping[int, Measured], other: Mapping[int, Measured]) -> list[tuple[int, int]]:
    last = (max(one), max(other))
    return [last, *((step, step) for step in sorted(one.keys() & other.keys(), reverse=True) if (step, step) != last)]


def _by_step(rows: Sequence[Measured]) -> dict[_Key, dict[int, Measured]]:
    found: dict[_Key, dict[int, Measured]] = {}
    for row in rows:
        if row.errors:
            found.setdefault((row.data_digest, row.head), {}).setdefault(row.step, row)
    return found
