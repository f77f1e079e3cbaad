"""Garbage collection: what nothing needs is removed from the store, and nothing that an upload in flight needs."""

import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import service as blobs
from app.artifacts.backends import Stored
from app.artifacts.store import BlobStore
from app.db import reading, transaction
from app.engines import registry
from app.tables import Artifact, Blob, Dataset, Job, JobDataset
from app.tables.base import now
from app.wire.maintenance import GcReport, Removed
from app.wire.states import FINAL_STATES

KEPT = timedelta(days=1)
"""What is younger may belong to an upload in flight: bytes come first, then the row, then what refers to it."""
ARTIFACT_KEPT = timedelta(days=30)
BATCH = 200

T = TypeVar("T")


def collect(sessions: sessionmaker[Session], store: BlobStore, *, dry_run: bool) -> GcReport:
    """Remove what nothing needs, or with `dry_run` only say what that is.

    Several small transactions, so that nobody waits for long. It may be broken off and run again at any time, also in
    several processes at once.
    """
    artifacts = _artifacts(sessions, dry_run=dry_run)
    unused = _unused(sessions, store, dry_run=dry_run)
    return GcReport(
        dry_run=dry_run,
        artifacts=artifacts,
        unused=unused,
        unknown=_unknown(sessions, store, dry_run=dry_run),
        leftovers=_leftovers(store, dry_run=dry_run),
        quarantined=_sum(one.size for one in store.backend.quarantined()),
    )


def _sum(sizes: Iterable[int]) -> Removed:
    found = list(sizes)
    return Removed(count=len(found), size=sum(found))


def _artifacts(sessions: sessionmaker[Session], *, dry_run: bool) -> Removed:
    """Forget old artifacts that no job of these days uses. Their bytes are unused then, and counted as such."""
    with reading(sessions) as session:
        used = _used_artifacts(session)
        old = (
            select(Artifact.kind, Artifact.key, Blob.size).join(Blob).where(Artifact.created_at < now() - ARTIFACT_KEPT)
        )
        expired = [(kind, key, size) for kind, key, size in session.execute(old) if (kind, key) not in used]
    if not dry_run:
        for kind, key, _ in expired:
            with transaction(sessions) as session:
                session.execute(delete(Artifact).where(Artifact.kind == kind, Artifact.key == key))
    return _sum(size for _, _, size in expired)


def _used_artifacts(session: Session) -> set[tuple[str, str]]:
    """Return kind and key of every artifact that a job would ask for which runs, waits, or ended lately."""
    recent = select(Job.id, Job.engine, Job.resolved).where(
        Job.kind == "train", or_(Job.state.not_in(FINAL_STATES), Job.ended_at > now() - ARTIFACT_KEPT)
    )
    used: set[tuple[str, str]] = set()
    for job_id, name, config in session.execute(recent).all():
        engine = registry.get(name)
        if engine is not None:
            used |= set(engine.artifact_keys(config, _digests(session, job_id)).items())
    return used


def _digests(session: Session, job_id: int) -> dict[str, str]:
    rows = select(Dataset).join(JobDataset, JobDataset.dataset_id == Dataset.id).where(JobDataset.job_id == job_id)
    return {f"{row.name}@{row.version}": row.digest for row in session.scalars(rows)}


def _unused(sessions: sessionmaker[Session], store: BlobStore, *, dry_run: bool) -> Removed:
    """Remove blobs to which no row refers."""
    with reading(sessions) as session:
        found = dict(session.execute(select(Blob.sha256, Blob.size).where(*_nobodys())).all())
    if not dry_run:
        removed: set[str] = set()
        for batch in _batches(list(found)):
            with transaction(sessions) as session:
                dropped = blobs.release(session, batch)
            removed |= set(dropped)
            blobs.sweep(sessions, store, dropped)
        found = {sha256: size for sha256, size in found.items() if sha256 in removed}
    return _sum(found.values())


def _nobodys() -> tuple[ColumnElement[bool], ...]:
    return Blob.created_at < now() - KEPT, *(~reference for reference in blobs.references())


def _unknown(sessions: sessionmaker[Session], store: BlobStore, *, dry_run: bool) -> Removed:
    """Remove bytes without a row: a server died between the end of a transaction and their removal."""
    before = time.time() - KEPT.total_seconds()
    old = [one for one in store.backend.blobs() if one.changed_at < before]
    removed: list[int] = []
    for batch in _batches(old):
        sizes = {one.sha256: one.size for one in _without_row(sessions, batch)}
        gone = sizes if dry_run else blobs.sweep(sessions, store, list(sizes))
        removed += [sizes[sha256] for sha256 in gone]
    return _sum(removed)


def _without_row(sessions: sessionmaker[Session], batch: list[Stored]) -> list[Stored]:
    with reading(sessions) as session:
        known = set(session.scalars(select(Blob.sha256).where(Blob.sha256.in_([one.sha256 for one in batch]))))
    return [one for one in batch if one.sha256 not in known]


def _batches(items: list[T]) -> Iterable[list[T]]:
    return (items[first : first + BATCH] for first in range(0, len(items), BATCH))


def _leftovers(store: BlobStore, *, dry_run: bool) -> Removed:
    """Remove what interrupted uploads left."""
    found = _sum(_size(path) for path in store.stale())
    if not dry_run:
        store.clean_up()
    return found


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
