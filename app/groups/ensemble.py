"""The ensemble of a group as one zip: a checkpoint of every replica, and how to use them together."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.artifacts.store import BlobStore
from app.engines.base import Engine
from app.errors import Conflict
from app.jobs import intact, service
from app.jobs.bundle import Member
from app.tables import CheckpointFile, Group, Job

INDEX = "ensemble.json"


@dataclass(frozen=True)
class Part:
    """The weights of one replica."""

    job: Job
    step: int
    file: CheckpointFile
    name: str
    """In the archive."""


def members(session: Session, store: BlobStore, group: Group, step: int | None) -> list[Member]:
    """Return the files of a group's ensemble, every one verified.

    Raises:
        Conflict: `no-checkpoint`: a replica has no good checkpoint, or none of this step.
    """
    query = select(Job).where(Job.group_id == group.id, Job.replica.is_not(None)).order_by(Job.replica)
    parts = [_part(session, store, job, step) for job in session.scalars(query)]
    index = _index(service.known_engine(group.engine), group, parts)
    content = json.dumps(index, indent=2, ensure_ascii=False).encode()
    return [Member(INDEX, lambda: [content]), *_weights(store, parts)]


def _part(session: Session, store: BlobStore, job: Job, step: int | None) -> Part:
    found = intact.newest_good(session, store, job.id, step).good
    if found is None:
        which = "no checkpoint yet" if step is None else f"no good checkpoint of step {step}"
        hint = "`cairn download JOB` fetches what a single replica has."
        raise Conflict(
            f"replica {job.replica} (job {job.id}, {job.state} at step {job.step}) has {which}: the ensemble is not whole",
            code="no-checkpoint",
            hint=hint if step is None else "Without a step, each replica's newest is taken.",
        )
    file = next(file for file in found.files if file.role == "checkpoint")
    return Part(job, found.step, file, f"replica-{job.replica:02d}-{file.name}")


def _index(engine: Engine, group: Group, parts: list[Part]) -> dict[str, object]:
    return {
        "group": group.id,
        "name": group.name,
        "engine": group.engine,
        "seed": group.seed,
        "models": [
            {
                "file": part.name,
                "job": part.job.id,
                "replica": part.job.replica,
                "seed": part.job.seed,
                "step": part.step,
                "sha256": part.file.blob_sha256,
            }
            for part in parts
        ],
        "use": list(engine.ensemble_commands(parts[0].job.resolved, [part.name for part in parts])),
    }


def _weights(store: BlobStore, parts: list[Part]) -> Iterator[Member]:
    for part in parts:
        yield Member(part.name, partial(store.read, part.file.blob_sha256), compress=False)
