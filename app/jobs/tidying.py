"""What a completed job could have gone on from is removed, unless it is a training's: nothing goes on from it any more."""

import logging

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import service as blobs
from app.artifacts.store import BlobStore, open_store
from app.db import reading, transaction
from app.jobs import retention
from app.settings import Settings
from app.tables import Checkpoint, Job

log = logging.getLogger(__name__)

BATCH = 20


def tidy(sessions: sessionmaker[Session], store: BlobStore, job_id: int) -> None:
    """Forget the checkpoints of a completed job that trains nothing, and remove their bytes. A second call changes nothing."""
    with transaction(sessions) as session:
        dropped = retention.forget_all(session, job_id)
    blobs.sweep(sessions, store, dropped)


def tidy_due(sessions: sessionmaker[Session], settings: Settings) -> int:
    """Tidy what a process left that died after it had accepted the end of a job; return how many jobs that were.

    Safe in several processes at once.
    """
    has_some = select(Checkpoint.id).where(Checkpoint.job_id == Job.id).exists()
    due = select(Job.id).where(Job.state == "completed", Job.kind != "train", has_some).order_by(Job.id).limit(BATCH)
    with reading(sessions) as session:
        jobs = session.scalars(due).all()
    if jobs:
        store = open_store(settings)
        for job_id in jobs:
            tidy(sessions, store, job_id)
            log.info("job %s is completed: what it could have gone on from was removed", job_id)
    return len(jobs)
