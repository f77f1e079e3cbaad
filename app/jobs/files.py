"""Files that jobs make beside their checkpoints: registered by the attempt that runs, read by anybody."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.artifacts import service as blobs
from app.artifacts.store import BlobStore
from app.auth import AttemptIdentity
from app.errors import Conflict, NotFound
from app.jobs.timeline import tell, touch
from app.tables import JobFile
from app.wire import jobs as wire
from app.wire.worker import JobFilePut


def register(session: Session, store: BlobStore, attempt: AttemptIdentity, sent: JobFilePut) -> list[str]:
    """Register a file whose blob the server has; the same name again replaces it, the same file changes nothing.

    Returns the digests of blobs to which nothing refers any more; the caller removes the bytes after the commit.

    Raises:
        BlobMissing, BlobCorrupt: it was not uploaded, or its bytes are not what they were.
        Conflict: it has another size or MD5 than announced.
    """
    blob = blobs.get_blob(session, store, sent.sha256)
    if (blob.size, blob.md5) != (sent.size, sent.md5):
        message = (
            f"{sent.name} is announced with {sent.size} bytes and MD5 {sent.md5}, "
            f"but its blob has {blob.size} bytes and MD5 {blob.md5}"
        )
        raise Conflict(message, code="file-differs")
    row = session.get(JobFile, (attempt.job_id, sent.name))
    if row is not None and row.blob_sha256 == sent.sha256:
        return []
    before = [row.blob_sha256] if row is not None else []
    if row is None:
        row = JobFile(job_id=attempt.job_id, name=sent.name)
        session.add(row)
    row.media_type, row.blob_sha256, row.blob = sent.media_type, blob.sha256, blob
    touch(session, attempt.job_id)
    data = {"name": sent.name, "size": sent.size, "sha256": sent.sha256}
    tell(session, attempt.job_id, "file", f"{sent.name}, {sent.size:,} bytes", attempt=attempt.number, data=data)
    session.flush()
    return blobs.release(session, before)


def listed(session: Session, job_id: int) -> list[wire.JobFile]:
    """Return a job's files by name."""
    rows = session.scalars(select(JobFile).where(JobFile.job_id == job_id).order_by(JobFile.name))
    return [
        wire.JobFile(
            name=row.name, media_type=row.media_type, sha256=row.blob_sha256, md5=row.blob.md5, size=row.blob.size
        )
        for row in rows
    ]


def get(session: Session, job_id: int, name: str) -> JobFile:
    """Return a file of a job. Raises NotFound, with the names there are."""
    row = session.get(JobFile, (job_id, name))
    if row is None:
        names = ", ".join(file.name for file in listed(session, job_id))
        hint = f"There is: {names}." if names else "It has none (yet): a job's files are there once it has ended."
        raise NotFound(f"job {job_id} has no file {name}", hint=hint)
    return row
