"""From a prepared submission to a stored job: idempotency, what it refers to, whether it waits for its plan."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.datasets import service as datasets
from app.errands.service import ENDED
from app.errors import Invalid
from app.jobs import bases, leaves, planning, subjects, tasks, transitions
from app.jobs.preparation import Prepared, with_plan
from app.jobs.timeline import tell
from app.tables import BaseModel, Errand, Job, JobDataset, JobLeaf
from app.wire.base import MAX_NAME
from app.wire.problems import Problem


@dataclass(frozen=True)
class SubmitRequest:
    """A submission as it came. Its digest decides whether a repeated idempotency key means the same job."""

    document: Mapping[str, Any]
    digest: str
    key: str | None

    def with_config(self, config: Mapping[str, Any]) -> "SubmitRequest":
        """Return the request with another config under the same identity."""
        return replace(self, document={**self.document, "config": config})


def create(session: Session, prepared: Prepared, request: SubmitRequest) -> tuple[Job, bool]:
    """Store a job; return it and whether it is new. A repeated request is answered with its first job.

    It is queued, or kept in state `checking` until its plan is made.

    Raises:
        Invalid: its base or data were deleted meanwhile, or its plan, which was only made now, forbids it.
    """
    if earlier := find_repeated(session, request):
        return earlier, False
    prepared, errand = planned(session, prepared)
    job = new_job(prepared, request)
    if earlier := store(session, request, job):
        return earlier, False
    complete(session, job, prepared, errand)
    return job, True


def store(session: Session, request: SubmitRequest, job: Job) -> Job | None:
    """Store a new job's row. Return the job of the same key when another request stored it at the same moment."""
    try:
        with session.begin_nested():
            session.add(job)
            session.flush()
    except IntegrityError:
        earlier = find_repeated(session, request)
        if earlier is None:
            raise
        return earlier
    return None


def complete(session: Session, job: Job, prepared: Prepared, errand: Errand | None) -> None:
    """Store what belongs to a new job, and queue it; or keep it waiting for the errand that its plan needs."""
    job.inventory_errand_id = errand.id if errand else None
    for dataset_id in sorted({row.id for row in prepared.datasets.values()}):
        session.add(JobDataset(job_id=job.id, dataset_id=dataset_id))
    subjects.keep(session, job.id, prepared.models)
    session.execute(insert(JobLeaf), leaves.rows(job.id, prepared.resolution.config, prepared.resolution.origins))
    (transitions.hold if errand else transitions.enqueue)(session, job)
    for notice in prepared.resolution.warnings:
        tell(session, job.id, "warning", notice.message, data=notice.model_dump(exclude_none=True))
    session.flush()


def _hold_base(session: Session, prepared: Prepared) -> None:
    """Keep the base from being deleted until this transaction is over."""
    if prepared.base is None:
        return
    row = prepared.base.row
    statement = select(BaseModel.id).where(BaseModel.id == row.id).with_for_update(read=True, key_share=True)
    if session.scalar(statement) is None:
        raise Invalid([bases.deleted(row)])


def _hold_datasets(session: Session, prepared: Prepared) -> None:
    """Keep the data from being deleted until this transaction is over."""
    there = datasets.hold(session, {row.id for row in prepared.datasets.values()})
    gone = sorted({f"{row.name}@{row.version}" for row in prepared.datasets.values() if row.id not in there})
    if gone:
        message = f"the dataset {gone[0]} was deleted just now"
        raise Invalid([Problem(code="unknown-dataset", message=message, pointer="/config")])


def planned(session: Session, prepared: Prepared) -> tuple[Prepared, Errand | None]:
    """Return a submission with its plan, or with the errand that it waits for. Base, models and data cannot be deleted any more.

    Raises:
        Invalid: one of these was deleted meanwhile, or its plan, which was only made now, forbids it.
    """
    subjects.hold(session, prepared.models)
    _hold_base(session, prepared)
    _hold_datasets(session, prepared)
    if not prepared.needs_plan:
        return prepared, None
    errand = planning.place(session, planning.listing(prepared.engine, prepared.resolution))
    if errand.state in ENDED:  # since `prepare` looked
        return with_plan(prepared, planning.tensors(errand)), None
    return prepared, errand


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


def new_job(prepared: Prepared, request: SubmitRequest) -> Job:
    """Return the row of a job that is not stored yet."""
    submit, resolution, base = prepared.submit, prepared.resolution, prepared.base
    start_step = (base.base.facts.step or 0) if base and submit.start.mode == "resume" else 0
    name = name_of(prepared)
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
        start=prepared.start.model_dump(exclude_defaults=True),
        base_model_id=base.row.id if base else None,
        plan=prepared.plan.model_dump(mode="json") if prepared.plan else None,
        step=start_step,
        start_step=start_step,
        group_id=prepared.group_id,
        test_on=list(prepared.test_on) or None,
        test_at=submit.test_at or None,
        test_every=submit.test_every,
        file_stem=tasks.file_stem(
            prepared.engine, submit.kind, name, resolution.config, resolution.seed, resolution.digest
        ),
        checkpoint_policy=submit.checkpoints.model_dump(),
        gpus=submit.resources.gpus,
        total_steps=resolution.total_steps,
        idempotency_key=request.key,
        request_digest=request.digest,
    )


def name_of(prepared: Prepared) -> str:
    """Return a submission's name; where its owner gave none, one of its models and data: `job:17@2000 on water`."""
    data = "+".join(sorted({row.name for row in prepared.datasets.values()}))
    models = "+".join(one.model.name for one in prepared.models)
    named = " on ".join(part[: MAX_NAME // 2 - 2] for part in (models, data) if part)
    return prepared.submit.name or named or prepared.engine.name
