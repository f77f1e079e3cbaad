"""What stored files are used for, in words."""

from collections.abc import Collection, Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tables import (
    Artifact,
    BaseModel,
    Checkpoint,
    CheckpointFile,
    Dataset,
    Errand,
    Job,
    JobDataset,
    JobFile,
    JobModel,
)
from app.wire.maintenance import BlobUse
from app.wire.states import FINAL_STATES

MOST = 50
"""Jobs that are named at most for one dataset or base model."""


def of(session: Session, digests: Collection[str]) -> dict[str, list[BlobUse]]:
    """Return what each of these blobs is used for; one that nothing refers to is left out."""
    found: dict[str, list[BlobUse]] = {}
    for digest, use in _all(session, digests):
        if use not in (known := found.setdefault(digest, [])):
            known.append(use)
    return found


def _all(session: Session, digests: Collection[str]) -> Iterator[tuple[str, BlobUse]]:
    yield from _of_jobs(session, digests)
    yield from _of_data(session, digests)
    yield from _of_bases(session, digests)
    artifacts = select(Artifact.blob_sha256, Artifact.kind, Artifact.key).where(Artifact.blob_sha256.in_(digests))
    for digest, kind, key in session.execute(artifacts):
        yield digest, BlobUse(words=f"artifact {kind}/{key[:12]}, which is made again when it is needed")
    open_errands = Errand.blob_sha256.in_(digests), Errand.state.in_(("waiting", "taken"))
    for inspected in session.scalars(select(Errand.blob_sha256).where(*open_errands).distinct()):
        yield str(inspected), BlobUse(words="a file that a worker is to look into")


def _of_jobs(session: Session, digests: Collection[str]) -> Iterator[tuple[str, BlobUse]]:
    checkpoints = (
        select(CheckpointFile.blob_sha256, Checkpoint.job_id, Checkpoint.step)
        .join(Checkpoint, Checkpoint.id == CheckpointFile.checkpoint_id)
        .where(CheckpointFile.blob_sha256.in_(digests))
        .order_by(Checkpoint.job_id, Checkpoint.step)
    )
    for digest, job, step in session.execute(checkpoints):
        yield digest, BlobUse(words=f"checkpoint step {step} of job {job}", job=job)
    files = select(JobFile.blob_sha256, JobFile.job_id, JobFile.name).where(JobFile.blob_sha256.in_(digests))
    for digest, job, name in session.execute(files.order_by(JobFile.job_id)):
        yield digest, BlobUse(words=f"{name} of job {job}", job=job)
    models = select(JobModel.blob_sha256, JobModel.job_id, JobModel.name).where(JobModel.blob_sha256.in_(digests))
    for digest, job, name in session.execute(models.order_by(JobModel.job_id)):
        yield digest, BlobUse(words=f"model {name} of job {job}", job=job)


def _of_data(session: Session, digests: Collection[str]) -> Iterator[tuple[str, BlobUse]]:
    for row in session.scalars(select(Dataset).where(Dataset.blob_sha256.in_(digests)).order_by(Dataset.id)).all():
        name = f"dataset {row.name}@{row.version}"
        yield row.blob_sha256, BlobUse(words=name)
        jobs = select(Job.id).join(JobDataset, JobDataset.job_id == Job.id).where(JobDataset.dataset_id == row.id)
        for job in session.scalars(jobs.where(Job.state.not_in(FINAL_STATES)).order_by(Job.id).limit(MOST)):
            yield row.blob_sha256, BlobUse(words=f"{name}, which job {job} trains on", job=job)


def _of_bases(session: Session, digests: Collection[str]) -> Iterator[tuple[str, BlobUse]]:
    for row in session.scalars(
        select(BaseModel).where(BaseModel.blob_sha256.in_(digests)).order_by(BaseModel.id)
    ).all():
        name = f"base model {row.name}@{row.version}"
        yield row.blob_sha256, BlobUse(words=name)
        jobs = select(Job.id).where(Job.base_model_id == row.id, Job.state.not_in(FINAL_STATES))
        for job in session.scalars(jobs.order_by(Job.id).limit(MOST)):
            yield row.blob_sha256, BlobUse(words=f"{name}, which job {job} starts from", job=job)
