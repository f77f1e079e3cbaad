"""From a submission to a queued job: idempotency, data, resolution."""

import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import resolve
from app.datasets.service import facts
from app.engines import registry
from app.engines.base import Engine
from app.errors import Invalid
from app.jobs import leaves, transitions
from app.jobs.timeline import tell
from app.tables import Dataset, Job, JobDataset, JobLeaf
from app.wire.datasets import DatasetRef
from app.wire.jobs import MAX_SEED, JobSubmit, Resolution
from app.wire.problems import Problem

MAX_STEPS = 2**53
"""Steps are counted in JSON numbers, which browsers read as 64-bit floats."""


@dataclass(frozen=True)
class SubmitRequest:
    """A submission as it came. Its digest decides whether a repeated idempotency key means the same job."""

    document: Mapping[str, Any]
    digest: str
    key: str | None

    def with_config(self, config: Mapping[str, Any]) -> "SubmitRequest":
        """Return the request with another config under the same identity."""
        return replace(self, document={**self.document, "config": config})


@dataclass(frozen=True)
class Prepared:
    """A submission that would run."""

    engine: Engine
    submit: JobSubmit
    resolution: Resolution
    datasets: Mapping[str, Dataset]
    """The dataset version that each reference in the config stands for."""


def prepare(session: Session, submit: JobSubmit) -> Prepared:
    """Resolve a submission; only reads.

    Raises:
        Invalid: with everything that is wrong, each with a pointer into the submission.
    """
    engine = find_engine(submit.engine)
    datasets = _datasets(session, engine, submit.config)
    seed = submit.seed if submit.seed is not None else secrets.randbelow(MAX_SEED + 1)
    answer = resolve.resolve(
        engine,
        submit,
        datasets={text: facts(row) for text, row in datasets.items()},
        root_seed=seed,
        known=list(session.scalars(select(Dataset.name).distinct())),
    )
    problems = [*(answer if isinstance(answer, list) else []), *_foreign_data(engine, datasets)]
    if isinstance(answer, list) or problems:
        raise Invalid(problems)
    if answer.total_steps > MAX_STEPS:
        message = f"{answer.total_steps} steps are more than any training has"
        raise Invalid([Problem(code="out-of-range", message=message, pointer="/config")])
    return Prepared(engine, submit, answer, datasets)


def find_engine(name: str) -> Engine:
    """Return an engine by name. Raises Invalid with the names there are."""
    engine = registry.get(name)
    if engine is None:
        there_are = ", ".join(engine.name for engine in registry.ENGINES)
        message = f"there is no engine {name!r}"
        raise Invalid(
            [Problem(code="unknown-engine", message=message, pointer="/engine", hint=f"There is: {there_are}.")]
        )
    return engine


def _datasets(session: Session, engine: Engine, config: Mapping[str, Any]) -> dict[str, Dataset]:
    """Return the dataset that each reference of a config stands for; references to nothing are left out."""
    refs = {use.text: use.ref for use in engine.data_uses(config) if use.ref is not None}
    names = {ref.name for ref in refs.values()}
    rows = session.scalars(select(Dataset).where(Dataset.name.in_(names)).order_by(Dataset.version)).all()
    found = {text: _newest(rows, ref) for text, ref in refs.items()}
    return {text: row for text, row in found.items() if row is not None}


def _newest(rows: Iterable[Dataset], ref: DatasetRef) -> Dataset | None:
    matching = [row for row in rows if row.name == ref.name and ref.version in (None, row.version)]
    return matching[-1] if matching else None


def _foreign_data(engine: Engine, datasets: Mapping[str, Dataset]) -> Iterable[Problem]:
    for text, row in datasets.items():
        if row.engine != engine.name:
            message = f"{text} is data for {row.engine}, not for {engine.name}"
            yield Problem(code="wrong-engine", message=message, pointer="/config")


def create(session: Session, prepared: Prepared, request: SubmitRequest) -> tuple[Job, bool]:
    """Store and queue a job; return it and whether it is new. A repeated request is answered with its first job."""
    if earlier := find_repeated(session, request):
        return earlier, False
    job = _job(prepared, request)
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
    for dataset_id in sorted({row.id for row in prepared.datasets.values()}):
        session.add(JobDataset(job_id=job.id, dataset_id=dataset_id))
    session.execute(insert(JobLeaf), leaves.rows(job.id, prepared.resolution.config, prepared.resolution.origins))
    transitions.enqueue(session, job)
    for notice in prepared.resolution.warnings:
        tell(session, job.id, "warning", notice.message, data=notice.model_dump(exclude_none=True))
    session.flush()
    return job, True


def find_repeated(session: Session, request: SubmitRequest) -> Job | None:
    """Return the job that was submitted under this request's idempotency key.

    Raises:
        Invalid: the key was used for another submission.
    """
    if request.key is None:
        return None
    job = session.scalar(select(Job).where(Job.idempotency_key == request.key))
    if job is not None and job.request_digest != request.digest:
        message = f"the idempotency key {request.key!r} was used for another submission (job {job.id})"
        raise Invalid([Problem(code="idempotency-key-reused", message=message, hint="Use a new key for a new job.")])
    return job


def _job(prepared: Prepared, request: SubmitRequest) -> Job:
    submit, resolution = prepared.submit, prepared.resolution
    name = submit.name or _default_name(prepared.engine, prepared.datasets.values())
    return Job(
        name=name,
        kind=submit.kind,
        engine=submit.engine,
        state="checking",
        priority=submit.priority,
        tags=list(dict.fromkeys(submit.tags)),
        submitted=dict(request.document),
        resolved=resolution.config,
        origins={pointer: origin.model_dump(exclude_defaults=True) for pointer, origin in resolution.origins.items()},
        warnings=[notice.model_dump(exclude_none=True) for notice in resolution.warnings],
        digest=resolution.digest,
        seed=resolution.seed,
        seeds=resolution.seeds,
        determinism=submit.determinism,
        start=submit.start.model_dump(exclude_defaults=True),
        file_stem=prepared.engine.file_stem(name, resolution.config, resolution.seed, resolution.digest),
        checkpoint_policy=submit.checkpoints.model_dump(),
        total_steps=resolution.total_steps,
        idempotency_key=request.key,
        request_digest=request.digest,
    )


def _default_name(engine: Engine, datasets: Collection[Dataset]) -> str:
    """Return a name for a job whose owner gave none: that of its data."""
    return "+".join(sorted({row.name for row in datasets}))[:80] or engine.name
