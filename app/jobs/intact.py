"""Which of a job's checkpoints are good: hashed again, newest first, until one is found whose every file holds."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.artifacts.store import BlobStore
from app.jobs.weight_check import in_words
from app.tables import Checkpoint
from app.wire.resolution import TwinFile


@dataclass(frozen=True)
class Search:
    """What was looked at of a job's checkpoints."""

    good: Checkpoint | None
    files: tuple[TwinFile, ...]
    """Every checkpoint that was looked at, newest first: the good one is the last."""
    damaged: frozenset[str]
    """Digests of the files that are missing or changed."""

    @property
    def warning(self) -> str | None:
        """Which newer checkpoints are not good, and what is used instead; None when the newest is."""
        wrong = [f"step-{file.step} is {in_words(file)}" for file in self.files if not file.intact]
        if not wrong:
            return None
        instead = f"step-{self.good.step} is used instead" if self.good else "there is no older one that is good"
        return f"checkpoint {', '.join(wrong)}; {instead}"


def newest_good(session: Session, store: BlobStore, job_id: int, step: int | None = None) -> Search:
    """Look for the newest checkpoint of a job whose every file is there with the right bytes. May hash files.

    Of a step only that is looked at, as the newest attempt left it.
    """
    files: list[TwinFile] = []
    damaged: set[str] = set()
    rows = select(Checkpoint).where(Checkpoint.job_id == job_id)
    if step is not None:
        rows = rows.where(Checkpoint.step == step)
    for checkpoint in session.scalars(rows.order_by(Checkpoint.step.desc(), Checkpoint.id.desc())):
        found = {file.blob_sha256: store.damage(file.blob_sha256) for file in checkpoint.files}
        problem = next((problem for problem in found.values() if problem), None)
        files.append(TwinFile(job=job_id, step=checkpoint.step, intact=problem is None, problem=problem))
        if problem is None:
            return Search(checkpoint, tuple(files), frozenset(damaged))
        damaged |= {sha256 for sha256, what in found.items() if what}
    return Search(None, tuple(files), frozenset(damaged))
