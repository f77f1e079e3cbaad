"""Rows of blobs and artifacts, who may read what, and what nothing refers to any more."""

from collections.abc import Collection, Iterator

from sqlalchemy import Exists, delete, exists, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import removal
from app.artifacts.errors import BlobMissing, BlobVanished
from app.artifacts.store import BlobStore, Digests
from app.auth import AttemptIdentity
from app.db import transaction
from app.errors import Conflict, Forbidden, NotFound
from app.tables import (
    Artifact,
    Base,
    BaseModel,
    BaseModelName,
    Blob,
    Checkpoint,
    CheckpointFile,
    Dataset,
    DatasetName,
    Errand,
    Job,
    JobDataset,
    JobModel,
)
from app.tables.base import now
from app.wire.worker import ArtifactPut, ArtifactView


def record_blob(session: Session, store: BlobStore, digests: Digests) -> Blob:
    """Return the row of a stored blob, new or as it was. It stays, with its bytes, until this transaction is over.

    Raises:
        BlobVanished: the bytes were swept away since they were stored, because nothing referred to them.
    """
    while (found := hold_blob(session, digests.sha256)) is None:
        insert_if_absent(session, Blob, sha256=digests.sha256, md5=digests.md5, size=digests.size)
    # Looked at only now: a sweep that found no row removes them or has done so, and one to come finds this row (`sweep`).
    if removal.is_under_way(digests.sha256) or not store.intact(digests.sha256):
        raise BlobVanished(
            f"The bytes of {digests.sha256} were just being removed, because nothing referred to them.",
            hint="Send the same file again.",
        )
    found.damaged_at = None
    return found


def insert_if_absent(
    session: Session, table: type[Blob | Artifact | Errand | BaseModelName | DatasetName], **values: object
) -> bool:
    """Insert a row unless one with its key is there, also when somebody else inserts it at this moment.

    Returns whether it is new.
    """
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    insert = dialect.insert(table).values(**values).on_conflict_do_nothing()
    return session.execute(insert.returning(*table.__table__.primary_key)).first() is not None


def find_blob(session: Session, store: BlobStore, sha256: str) -> Blob | None:
    """Return the row of a blob that is recorded and whose bytes are there and good."""
    row = session.get(Blob, sha256)
    return row if row is not None and store.intact(sha256) else None


def get_blob(session: Session, store: BlobStore, sha256: str) -> Blob:
    """Return the row of a recorded blob after verifying its bytes. It stays until this transaction is over.

    Raises:
        BlobMissing: it is not recorded, or its bytes are gone.
        BlobCorrupt: its bytes no longer hash to its name.
    """
    row = hold_blob(session, sha256)
    if row is None:
        raise BlobMissing(f"The server has no blob {sha256}.", hint="Upload it first.")
    store.verify(sha256)
    return row


def check_readable(session: Session, attempt: AttemptIdentity, sha256: str) -> None:
    """Raise Forbidden unless the blob is data, a checkpoint, the base or a model of the attempt's job, or an artifact."""
    sources = (
        exists().where(
            Dataset.blob_sha256 == sha256, JobDataset.dataset_id == Dataset.id, JobDataset.job_id == attempt.job_id
        ),
        exists().where(Artifact.blob_sha256 == sha256),
        exists().where(
            CheckpointFile.blob_sha256 == sha256,
            Checkpoint.id == CheckpointFile.checkpoint_id,
            Checkpoint.job_id == attempt.job_id,
        ),
        exists().where(BaseModel.blob_sha256 == sha256, Job.base_model_id == BaseModel.id, Job.id == attempt.job_id),
        exists().where(JobModel.blob_sha256 == sha256, JobModel.job_id == attempt.job_id),
    )
    if not any(session.scalar(select(source)) for source in sources):
        raise Forbidden(
            f"The blob {sha256} is neither a dataset of job {attempt.job_id}, nor its base or another model, nor one of its checkpoints, nor an artifact.",
            code="blob-not-yours",
        )


def hold_blob(session: Session, sha256: str) -> Blob | None:
    """Return the row of a blob, which nobody can take away before this transaction is over; None: it is gone already."""
    return session.get(Blob, sha256, with_for_update={"read": True, "key_share": True}, populate_existing=True)


def note_damaged(session: Session, digests: Collection[str]) -> None:
    """Record that the bytes of these blobs were found missing or changed, of each the first time."""
    if not digests:
        return
    fresh = Blob.sha256.in_(sorted(digests)), Blob.damaged_at.is_(None)
    session.execute(update(Blob).where(*fresh).values(damaged_at=now()).execution_options(synchronize_session=False))


def release(session: Session, digests: Collection[str]) -> list[str]:
    """Forget those of these blobs to which nothing refers any more, and return them.

    The caller removes the bytes after the commit (`sweep`).
    """
    if not digests:
        return []
    # Locked first: who wants to refer to one of them now waits and then finds it gone, and who just did is seen below.
    lock(session, digests)
    statement = delete(Blob).where(Blob.sha256.in_(digests), *(~reference for reference in references()))
    return list(session.scalars(statement.returning(Blob.sha256)))


def lock(session: Session, digests: Collection[str]) -> None:
    """Let nothing begin to refer to these blobs before this transaction is over."""
    session.execute(select(Blob.sha256).where(Blob.sha256.in_(digests)).order_by(Blob.sha256).with_for_update())


def referred_to(session: Session, digests: Collection[str], *, beside: type[Base]) -> list[str]:
    """Return those of these blobs that something refers to which is no row of one table."""
    others = or_(*references(beside=beside))
    return list(session.scalars(select(Blob.sha256).where(Blob.sha256.in_(digests), others)))


def references(beside: type[Base] | None = None) -> Iterator[Exists]:
    """Yield one condition for every column of the database that can name a blob; one table may be left out."""
    for table in Base.metadata.sorted_tables:
        if beside is not None and table is beside.__table__:
            continue
        for key in table.foreign_keys:
            if key.column.table is Blob.__table__:
                yield exists().where(key.parent == Blob.sha256)


def sweep(sessions: sessionmaker[Session], store: BlobStore, digests: Collection[str]) -> list[str]:
    """Remove the bytes of blobs that the database does not know (any more), and return which.

    Somebody may be sending the same bytes at this moment: he keeps them, or is told to send them again (`record_blob`).
    Whoever else writes does not wait for the store, which may be at the other end of a network.
    """
    with sessions() as session:
        keeps_all_waiting = store.backend.is_far and session.get_bind().dialect.name == "sqlite"
    one = _sweep_marked if keeps_all_waiting else _sweep_held
    return [digest for digest in sorted(set(digests)) if one(sessions, store, digest)]


def _sweep_held(sessions: sessionmaker[Session], store: BlobStore, digest: str) -> bool:
    """Take the row first, in a transaction that leaves none behind: who wants to record the blob meanwhile waits for it."""
    with transaction(sessions) as session:
        if not insert_if_absent(session, Blob, sha256=digest, md5="", size=0):
            return False  # recorded again
        store.remove(digest)
        session.execute(delete(Blob).where(Blob.sha256 == digest))
        return True


def _sweep_marked(sessions: sessionmaker[Session], store: BlobStore, digest: str) -> bool:
    """Say first that the bytes go, then look whether they may: who records the blob after that look sees that they do.

    In this process: on SQLite with an object store there may be only one.
    """
    with removal.of(digest) as is_ours:
        if not is_ours or _is_recorded(sessions, digest):
            return False
        store.remove(digest)
        return True


def _is_recorded(sessions: sessionmaker[Session], digest: str) -> bool:
    with transaction(sessions) as session:  # one that writes: whoever records the blob at this moment is waited for
        return session.get(Blob, digest) is not None


def find_artifact(session: Session, kind: str, key: str) -> ArtifactView | None:
    """Return the artifact that stands under a key."""
    row = session.get(Artifact, (kind, key))
    return None if row is None else _view(session, row)


def get_artifact(session: Session, kind: str, key: str) -> ArtifactView:
    """Return the artifact that stands under a key. Raises NotFound."""
    found = find_artifact(session, kind, key)
    if found is None:
        raise NotFound(f"There is no artifact {kind}/{key}.", code="artifact-missing")
    return found


def put_artifact(session: Session, store: BlobStore, kind: str, key: str, artifact: ArtifactPut) -> ArtifactView:
    """Keep an artifact whose blob was uploaded before, and return the one that stands: the first writer wins.

    Raises:
        BlobMissing: the blob was not uploaded.
        Conflict: the blob has another size than announced.
    """
    blob = get_blob(session, store, artifact.blob_sha256)
    if blob.size != artifact.size:
        raise Conflict(
            f"The artifact {kind}/{key} is announced with {artifact.size} bytes, but its blob has {blob.size}.",
            code="size-mismatch",
        )
    insert_if_absent(session, Artifact, kind=kind, key=key, blob_sha256=blob.sha256, meta=artifact.meta)
    return get_artifact(session, kind, key)


def _view(session: Session, row: Artifact) -> ArtifactView:
    blob = session.get_one(Blob, row.blob_sha256)
    return ArtifactView(kind=row.kind, key=row.key, blob_sha256=row.blob_sha256, size=blob.size, meta=row.meta)
