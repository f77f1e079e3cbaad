"""Dataset versions: found, registered, listed."""

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.artifacts.service import record_blob
from app.artifacts.store import BlobStore
from app.datasets.ingest import Packed, pack_upload
from app.engines.base import DatasetFacts
from app.errors import Invalid, NotFound
from app.settings import Settings
from app.tables import Dataset
from app.wire.datasets import DatasetPage, DatasetRef, DatasetSummary, DatasetView
from app.wire.problems import Problem


def ingest_upload(
    session: Session,
    settings: Settings,
    store: BlobStore,
    *,
    name: str,
    path: Path,
    file_name: str,
    engine: str = "deepmd",
    type_map: Sequence[str] | None = None,
) -> tuple[Dataset, bool]:
    """Check, convert, store and register an uploaded file; return the version and whether it is new.

    `path` must lie in the store's scratch directory (`store.receive()` puts it there). Call it before anything else
    uses the session: checking takes its time, and an open transaction would keep every other writer waiting.
    Raises what `pack_upload` raises.
    """
    assert not session.in_transaction(), "an intake inside a transaction blocks all other writers"
    return register(session, name, pack_upload(settings, store, path, file_name, type_map), engine)


def register(session: Session, name: str, packed: Packed, engine: str = "deepmd") -> tuple[Dataset, bool]:
    """Give a packed dataset the next version of its name, unless a version with the same content stands already."""
    if session.get_bind().dialect.name == "postgresql":
        # Two uploads under one name at once must not take the same number. (SQLite has one writer anyway.)
        session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"dataset {name}"})
    standing = session.scalar(
        select(Dataset).where(Dataset.name == name, Dataset.digest == packed.digest, Dataset.engine == engine)
    )
    if standing is not None:
        return standing, False
    newest = session.scalar(select(func.max(Dataset.version)).where(Dataset.name == name)) or 0
    record_blob(session, packed.blob)
    dataset = Dataset(
        name=name,
        version=newest + 1,
        engine=engine,
        digest=packed.digest,
        blob_sha256=packed.blob.sha256,
        size=packed.blob.size,
        source=packed.source,
        summary=packed.summary.model_dump(mode="json"),
        warnings=list(packed.warnings),
    )
    session.add(dataset)
    session.flush()
    return dataset, True


def find(session: Session, ref: DatasetRef) -> Dataset | None:
    """Return the version a reference names, the newest when it names none. Its system is not looked at."""
    query = select(Dataset).where(Dataset.name == ref.name)
    if ref.version is not None:
        query = query.where(Dataset.version == ref.version)
    return session.scalar(query.order_by(Dataset.version.desc()).limit(1))


def get(session: Session, ref: str) -> Dataset:
    """Return the version that an id, `NAME` (the newest) or `NAME@VERSION` names. Raises NotFound."""
    named = DatasetRef.parse(f"dataset:{ref}")
    found = session.get(Dataset, int(ref)) if ref.isdecimal() and len(ref) < 19 else None
    if found is None and named is not None and named.system is None:
        found = find(session, named)
    if found is None:
        names = session.scalars(select(Dataset.name).distinct().order_by(Dataset.name).limit(10)).all()
        known = f"There are: {', '.join(names)}." if names else "None was uploaded yet."
        raise NotFound(f"There is no dataset {ref}.", code="no-such-dataset", hint=known)
    return found


def listed(session: Session, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> DatasetPage:
    """Return versions, newest first; `name`: only those whose name contains it."""
    query = select(Dataset).order_by(Dataset.id.desc()).limit(limit + 1)
    if name:
        query = query.where(Dataset.name.contains(name.lower(), autoescape=True))
    if cursor is not None:
        query = query.where(Dataset.id < _position(cursor))
    rows = session.scalars(query).all()
    return DatasetPage(
        items=[view(row) for row in rows[:limit]], next_cursor=str(rows[limit - 1].id) if len(rows) > limit else None
    )


def _position(cursor: str) -> int:
    if not cursor.isdecimal() or len(cursor) > 18:
        raise Invalid([Problem(code="bad-cursor", message=f"{cursor!r} is no cursor of this list.")])
    return int(cursor)


def view(dataset: Dataset) -> DatasetView:
    """Return what a client reads."""
    return DatasetView(
        id=dataset.id,
        name=dataset.name,
        version=dataset.version,
        engine=dataset.engine,
        digest=dataset.digest,
        size=dataset.size,
        created_at=dataset.created_at,
        source=dataset.source,
        summary=DatasetSummary.model_validate(dataset.summary),
        warnings=dataset.warnings,
    )


def facts(dataset: Dataset) -> DatasetFacts:
    """Return what resolution may know of a version."""
    summary = DatasetSummary.model_validate(dataset.summary)
    return DatasetFacts(
        name=dataset.name,
        version=dataset.version,
        digest=dataset.digest,
        systems=tuple(summary.systems),
        type_map=tuple(summary.type_map),
    )
