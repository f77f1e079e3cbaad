"""Checkpoints: registered once their bytes are proven, listed, found."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.artifacts import service as blobs
from app.artifacts.store import BlobStore
from app.auth import AttemptIdentity
from app.errors import Conflict, Invalid, NotFound
from app.jobs import retention, tasks
from app.jobs.timeline import tell, touch
from app.tables import Checkpoint, CheckpointFile, Job
from app.wire import checkpoints as wire
from app.wire.problems import Problem
from app.wire.worker import CheckpointPut


def register(session: Session, store: BlobStore, attempt: AttemptIdentity, sent: CheckpointPut) -> Checkpoint:
    """Register a checkpoint whose blobs the server has.

    The same step of the same attempt again is answered with what stands.

    Raises:
        BlobMissing, BlobCorrupt: a file was not uploaded, or its bytes are not what they were.
        Conflict: another checkpoint of this step is registered, or a file has another size or MD5 than announced.
    """
    standing = session.scalar(
        select(Checkpoint).where(
            Checkpoint.job_id == attempt.job_id, Checkpoint.attempt == attempt.number, Checkpoint.step == sent.step
        )
    )
    if standing is not None:
        return _same(standing, sent)
    job = session.get_one(Job, attempt.job_id)
    checkpoint = Checkpoint(
        job_id=job.id,
        attempt=attempt.number,
        step=sent.step,
        metrics=sent.metrics,
        fingerprint=sent.fingerprint,
        files=[_file(session, store, file) for file in _named_once(sent.files)],
    )
    session.add(checkpoint)
    session.flush()
    retention.warn_unmeasured(session, job, checkpoint)
    size = sum(file.size for file in sent.files)
    files = "1 file" if len(sent.files) == 1 else f"{len(sent.files)} files"
    message = f"checkpoint of {tasks.unit(job)} {sent.step}, {files}, {size / 1e6:.1f} MB, verified"
    data = {"step": sent.step, "size": size, "fingerprint": sent.fingerprint, "generators": sent.generators}
    tell(session, job.id, "checkpoint", message, attempt=attempt.number, data=data)
    touch(session, job.id)
    return checkpoint


def _same(standing: Checkpoint, sent: CheckpointPut) -> Checkpoint:
    known = {file.name: file.blob_sha256 for file in standing.files}
    if known != {file.name: file.sha256 for file in sent.files}:
        raise Conflict(f"the checkpoint of step {sent.step} is registered with other files", code="checkpoint-differs")
    return standing


def _named_once(files: Sequence[wire.CheckpointFile]) -> Sequence[wire.CheckpointFile]:
    names = {file.name for file in files}
    if not names or len(names) < len(files) or any("/" in name or not name.strip(".") for name in names):
        message = "a checkpoint needs files, each with a plain name of its own"
        raise Invalid([Problem(code="bad-checkpoint", message=message, pointer="/files")])
    return files


def _file(session: Session, store: BlobStore, file: wire.CheckpointFile) -> CheckpointFile:
    blob = blobs.get_blob(session, store, file.sha256)
    if (blob.size, blob.md5) != (file.size, file.md5):
        raise Conflict(
            f"{file.name} is announced with {file.size} bytes and MD5 {file.md5}, "
            f"but its blob has {blob.size} bytes and MD5 {blob.md5}",
            code="checkpoint-differs",
        )
    return CheckpointFile(name=file.name, role=file.role, blob_sha256=blob.sha256, blob=blob)


def newest_step(session: Session, job_id: int) -> int:
    """Return the step of a job's newest checkpoint, 0 when it has none."""
    return session.scalar(select(func.max(Checkpoint.step)).where(Checkpoint.job_id == job_id)) or 0


def listed(session: Session, job_id: int) -> list[wire.CheckpointView]:
    """Return a job's checkpoints, newest step first, and why each is kept."""
    rows = session.scalars(retention.newest_first(job_id)).all()
    policy = retention.policy_of(session.get_one(Job, job_id))
    why = retention.reasons(session, job_id, rows, policy)
    return [view(row, why.get(row.id, ())) for row in rows]


def find_file(session: Session, job_id: int, checkpoint_id: int, name: str) -> CheckpointFile:
    """Return one file of a checkpoint of this job. Raises NotFound."""
    row = session.scalar(
        select(CheckpointFile)
        .join(Checkpoint, Checkpoint.id == CheckpointFile.checkpoint_id)
        .where(Checkpoint.job_id == job_id, Checkpoint.id == checkpoint_id, CheckpointFile.name == name)
    )
    if row is None:
        raise NotFound(
            f"job {job_id} has no checkpoint {checkpoint_id} with a file {name}",
            hint="Not all checkpoints are kept; the job's list shows which, and why.",
        )
    return row


def view(row: Checkpoint, kept: Sequence[str] = ()) -> wire.CheckpointView:
    """Return what a client reads."""
    return wire.CheckpointView(
        id=row.id,
        job_id=row.job_id,
        attempt=row.attempt,
        step=row.step,
        created_at=row.created_at,
        files=file_views(row),
        metrics=row.metrics,
        fingerprint=row.fingerprint,
        kept=list(kept),
    )


def file_views(row: Checkpoint) -> list[wire.CheckpointFile]:
    """Return the files of a checkpoint as clients and workers read them."""
    return [
        wire.CheckpointFile.model_validate(
            {
                "name": file.name,
                "role": file.role,
                "sha256": file.blob_sha256,
                "md5": file.blob.md5,
                "size": file.blob.size,
            }
        )
        for file in row.files
    ]
