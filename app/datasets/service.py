"""Dataset versions: found, registered, listed, deleted."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.artifacts.service import insert_if_absent, record_blob, release
from app.artifacts.store import BlobStore
from app.datasets.ingest import Packed
from app.engines import registry
from app.engines.base import DatasetFacts
from app.errors import Conflict, Invalid, NotFound
from app.tables import Blob, Dataset, DatasetName, JobDataset
from app.wire.datasets import (
    DatasetContents,
    DatasetHead,
    DatasetListed,
    DatasetPage,
    DatasetRef,
    DatasetSummary,
    DatasetView,
)
from app.wire.problems import Problem

MOST_USERS = 200
"""Jobs that a refusal counts at most."""


def register(session: Session, store: BlobStore, name: str, packed: Packed, engine: str) -> tuple[Dataset, bool]:
    """Give a packed dataset the next version of its name, unless a version with the same content stands already."""
    numbers = _numbers(session, name)
    standing = session.scalar(
        select(Dataset).where(Dataset.name == name, Dataset.digest == packed.digest, Dataset.engine == engine)
    )
    if standing is not None:
        record_blob(session, store, packed.blob)  # the same bytes again heal what was damaged
        return standing, False
    record_blob(session, store, packed.blob)
    numbers.last_version += 1
    dataset = Dataset(
        name=name,
        version=numbers.last_version,
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


def _numbers(session: Session, name: str) -> DatasetName:
    """Return which numbers a name has had. Nobody else can take one before this transaction is over."""
    newest = session.scalar(select(func.max(Dataset.version)).where(Dataset.name == name)) or 0
    insert_if_absent(session, DatasetName, name=name, last_version=newest)
    return session.get_one(DatasetName, name, with_for_update=True, populate_existing=True)


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


def get_exactly(session: Session, reference: str) -> Dataset:
    """Return the version that an id or `NAME@VERSION` names: what is to go must be named fully.

    Raises:
        NotFound: `no-such-dataset`.
        Invalid: `version-needed`: it names no version.
    """
    dataset = get(session, reference)
    full = f"{dataset.name}@{dataset.version}"
    if reference not in (full, str(dataset.id)):
        message = f"{reference} is now {full}, but may be another version at the next moment."
        raise Invalid([Problem(code="version-needed", message=message, hint=f"Name it fully: {full}.")])
    return dataset


def users(session: Session, dataset: Dataset) -> list[int]:
    """Return the ids of the newest jobs that use a version."""
    statement = select(JobDataset.job_id).where(JobDataset.dataset_id == dataset.id)
    return list(session.scalars(statement.order_by(JobDataset.job_id.desc()).limit(MOST_USERS)))


def delete(session: Session, dataset: Dataset) -> list[str]:
    """Delete a version that no job uses.

    Returns the digests of blobs to which nothing refers any more; the caller removes the bytes after the commit.

    Raises:
        Conflict: `dataset-in-use`, with the jobs that use it.
    """
    # The blob first, as everywhere. While the row is locked, no job can begin to use it.
    session.execute(select(Blob.sha256).where(Blob.sha256 == dataset.blob_sha256).with_for_update())
    session.execute(select(Dataset.id).where(Dataset.id == dataset.id).with_for_update())
    if jobs := users(session, dataset):
        more = f" and {len(jobs) - 10} more" if len(jobs) > 10 else ""
        named = f"{'jobs' if len(jobs) > 1 else 'job'} {', '.join(map(str, jobs[:10]))}{more}"
        raise Conflict(
            f"{dataset.name}@{dataset.version} cannot be deleted: it is the data of {named}.",
            code="dataset-in-use",
            hint="What a job was trained on stays as long as the job.",
        )
    session.delete(dataset)
    session.flush()
    return release(session, [dataset.blob_sha256])


def hold(session: Session, dataset_ids: Collection[int]) -> set[int]:
    """Keep versions from being deleted until this transaction is over; return those that are still there."""
    statement = select(Dataset.id).where(Dataset.id.in_(dataset_ids)).order_by(Dataset.id)
    return set(session.scalars(statement.with_for_update(read=True, key_share=True)))


def listed(session: Session, *, name: str | None = None, cursor: str | None = None, limit: int = 50) -> DatasetPage:
    """Return versions in short, newest first; `name`: only those whose name contains it."""
    query = select(Dataset).order_by(Dataset.id.desc()).limit(limit + 1)
    if name:
        query = query.where(Dataset.name.contains(name.lower(), autoescape=True))
    if cursor is not None:
        query = query.where(Dataset.id < _position(cursor))
    rows = session.scalars(query).all()
    return DatasetPage(
        items=[_in_list(row) for row in rows[:limit]],
        next_cursor=str(rows[limit - 1].id) if len(rows) > limit else None,
    )


def newest(session: Session, limit: int) -> list[DatasetView]:
    """Return the newest versions with all that is in them."""
    return [view(row) for row in session.scalars(select(Dataset).order_by(Dataset.id.desc()).limit(limit))]


def _position(cursor: str) -> int:
    if not cursor.isdecimal() or len(cursor) > 18:
        raise Invalid([Problem(code="bad-cursor", message=f"{cursor!r} is no cursor of this list.")])
    return int(cursor)


def _in_list(dataset: Dataset) -> DatasetListed:
    return DatasetListed(**_head(dataset), contents=_contents(DatasetSummary.model_validate(dataset.summary)))


def _head(dataset: Dataset) -> dict[str, Any]:
    return {name: getattr(dataset, name) for name in DatasetHead.model_fields}


def _contents(summary: DatasetSummary) -> DatasetContents:
    text, tokenizer = summary.text, summary.tokenizer
    return DatasetContents(
        elements=summary.elements,
        systems=len(summary.systems),
        frames=summary.frames,
        structures=len(summary.structures),
        files=len(text.files) if text else 0,
        documents=text.documents if text else 0,
        conversations=text.conversations if text else 0,
        characters=text.characters if text else 0,
        tokenizer=tokenizer.model if tokenizer else None,
        tokens=tokenizer.vocab_size if tokenizer else 0,
    )


def view(dataset: Dataset) -> DatasetView:
    """Return what a client reads."""
    view = DatasetView(**_head(dataset), summary=DatasetSummary.model_validate(dataset.summary))
    engine = registry.get(dataset.engine)
    return view.model_copy(update={"usage": engine.usage(view)}) if engine else view


def facts(dataset: Dataset) -> DatasetFacts:
    """Return what resolution may know of a version."""
    summary = DatasetSummary.model_validate(dataset.summary)
    return DatasetFacts(
        name=dataset.name,
        version=dataset.version,
        digest=dataset.digest,
        systems=tuple(summary.systems),
        type_map=tuple(summary.type_map),
        text=summary.text,
        tokenizer=summary.tokenizer,
        structures=tuple(summary.structures),
        distances=summary.distances,
    )
