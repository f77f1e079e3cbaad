"""All of a job in one zip: made while it is sent, so that its size does not matter."""

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts.store import BlobStore
from app.jobs import files, intact, logs, metric_export, metric_reading, service, timeline
from app.jobs.provenance import provenance
from app.tables import Attempt, Checkpoint, Job

Which = Literal["all", "latest", "none"]


MAX_EVENTS = 100_000


@dataclass(frozen=True)
class Member:
    """One file of a bundle, read only when its turn comes. Weights do not compress; text does."""

    name: str
    content: Callable[[], Iterable[bytes]]
    compress: bool = True


def members(
    session: Session, sessions: sessionmaker[Session], store: BlobStore, job: Job, which: Which
) -> list[Member]:
    """Return the files of a job's bundle. Every checkpoint in it has been verified; damaged ones raise BlobCorrupt."""
    engine = service.known_engine(job.engine)
    attempts = list(session.scalars(select(Attempt).where(Attempt.job_id == job.id).order_by(Attempt.number)))
    history = metric_export.History(
        sessions=sessions,
        job_id=job.id,
        keys=metric_reading.matching(session, job.id, None),
        ranges=metric_reading.windows(session, job.id, None, None),
        max_points=None,
    )
    found = [
        _json(engine.document, job.submitted["config"]),
        _json("submission.json", job.submitted),
        _json("out.json", job.resolved),
        _json("provenance.json", provenance(session, job).model_dump(mode="json")),
        _json("environment.json", [_environment(attempt) for attempt in attempts]),
        _json(
            "timeline.json",
            [event.model_dump(mode="json") for event in timeline.events(session, job.id, limit=MAX_EVENTS)],
        ),
        Member("log.txt", lambda: logs.whole(sessions, job.id)),
    ]
    if history.keys and job.kind == "train":
        name = engine.learning_curve_name()
        found.append(Member(name, lambda: metric_export.learning_curve(history, engine, job.resolved)))
    return [*found, *_files(session, store, job.id), *_weights(session, store, job.id, which)]


def _json(name: str, value: Any) -> Member:
    return Member(name, lambda: [json.dumps(value, indent=2, ensure_ascii=False).encode()])


def _environment(attempt: Attempt) -> dict[str, Any]:
    return service.attempt_view(attempt).model_dump(mode="json")


def _files(session: Session, store: BlobStore, job_id: int) -> Iterator[Member]:
    for file in files.listed(session, job_id):
        store.verify(file.sha256)
        yield Member(file.name, partial(store.read, file.sha256))


def _weights(session: Session, store: BlobStore, job_id: int, which: Which) -> Iterator[Member]:
    for checkpoint in _chosen(session, store, job_id, which):
        for file in checkpoint.files:
            store.verify(file.blob_sha256)
            content = partial(store.read, file.blob_sha256)
            yield Member(f"checkpoints/step-{checkpoint.step}/{file.name}", content, compress=False)


def _chosen(session: Session, store: BlobStore, job_id: int, which: Which) -> Iterable[Checkpoint]:
    if which == "all":
        # A step that was reached twice is there once: as the newest attempt left it.
        rows = session.scalars(select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.id))
        return {row.step: row for row in rows}.values()
    newest = intact.newest_good(session, store, job_id).good if which == "latest" else None
    return [newest] if newest is not None else []


class _Sink:
    """Where `zipfile` writes: not seekable, emptied after every chunk."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes, /) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        """Nothing lies anywhere else."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        """Return what was written since."""
        taken = bytes(self._written)
        self._written.clear()
        return taken


def stream(directory: str, made: datetime, members: Iterable[Member]) -> Iterator[bytes]:
    """Yield a zip archive with these files below one directory, holding a chunk of one of them at a time."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for file in members:
            entry = zipfile.ZipInfo(f"{directory}/{file.name}", made.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED if file.compress else zipfile.ZIP_STORED
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as target:
                for chunk in file.content():
                    target.write(chunk)
                    if data := sink.take():
                        yield data
    yield sink.take()
