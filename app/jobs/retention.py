"""Retention: which of a job's checkpoints are kept, and why; the others are forgotten, their bytes removed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.artifacts import service as blobs
from app.engines.base import Engine
from app.errors import Invalid, NotFound
from app.jobs import chosen
from app.jobs.timeline import tell
from app.tables import BaseModel, Checkpoint, CheckpointFile, Errand, Job, JobModel
from app.wire.problems import Problem
from app.wire.retention import Candidate, Retention, kept
from app.wire.states import FINAL_STATES
from app.wire.submission import CheckpointPolicy


def newest_first(job_id: int) -> Select[Checkpoint]:
    """Return the query for a job's checkpoints, newest step first."""
    return select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(Checkpoint.step.desc(), Checkpoint.id.desc())


def reasons(
    session: Session, job_id: int, rows: Sequence[Checkpoint], policy: CheckpointPolicy
) -> dict[int, list[str]]:
    """Return why each of a job's checkpoints is kept, by its id; those that are not named are not."""
    job = session.get_one(Job, job_id)
    referred_by = _referred_by(session, job_id, rows)
    waiting = {row.id for row in rows if chosen.is_due(job, row)}
    return kept([_candidate(row, referred_by, ["to be tested"] * (row.id in waiting)) for row in rows], policy)


def _candidate(row: Checkpoint, referred_by: Mapping[str, Sequence[str]], own: Sequence[str]) -> Candidate:
    digests = dict.fromkeys(file.blob_sha256 for file in row.files)
    return Candidate(
        key=row.id,
        step=row.step,
        metrics=row.metrics,
        good=all(file.blob.damaged_at is None for file in row.files),
        referred_by=[*own, *dict.fromkeys(who for digest in digests for who in referred_by.get(digest, ()))],
    )


def _referred_by(session: Session, job_id: int, rows: Sequence[Checkpoint]) -> dict[str, list[str]]:
    """Return in words what else needs the files of these checkpoints, by digest."""
    digests = sorted({file.blob_sha256 for row in rows for file in row.files})
    found: dict[str, list[str]] = {}
    if digests:
        for digest, words in _references(session, job_id, digests):
            found.setdefault(digest, []).append(words)
    return found


def _references(session: Session, job_id: int, digests: Collection[str]) -> Iterator[tuple[str, str]]:
    bases = select(BaseModel.blob_sha256, BaseModel.name, BaseModel.version).where(BaseModel.blob_sha256.in_(digests))
    for digest, name, version in session.execute(bases.order_by(BaseModel.id)):
        yield digest, f"base {name}@{version}"
    models = select(JobModel.blob_sha256, JobModel.job_id).where(JobModel.blob_sha256.in_(digests)).distinct()
    for digest, other in session.execute(models.order_by(JobModel.job_id)):
        yield digest, f"model of job {other}"
    inspections = select(Errand.blob_sha256).where(
        Errand.blob_sha256.in_(digests), Errand.state.in_(("waiting", "taken"))
    )
    for inspected in session.scalars(inspections):
        yield str(inspected), "being inspected"
    heirs = (
        select(CheckpointFile.blob_sha256, Job.id)
        .join(Checkpoint, Checkpoint.id == CheckpointFile.checkpoint_id)
        .join(Job, Job.id == Checkpoint.job_id)
        .where(CheckpointFile.blob_sha256.in_(digests), Job.continues_id == job_id, Job.state.not_in(FINAL_STATES))
    )
    for digest, other in session.execute(heirs.order_by(Job.id).distinct()):
        yield digest, f"job {other} goes on from it"


def plan(
    session: Session, job_id: int, policy: CheckpointPolicy
) -> tuple[list[Checkpoint], list[Checkpoint], dict[int, list[str]]]:
    """Return what a policy keeps and what it does not, newest first, and why it keeps what it keeps."""
    rows = session.scalars(newest_first(job_id)).all()
    why = reasons(session, job_id, rows, policy)
    return [row for row in rows if row.id in why], [row for row in rows if row.id not in why], why


def retain(session: Session, job_id: int) -> list[str]:
    """Forget the checkpoints that the job's policy does not keep.

    Returns the digests of the blobs to which nothing refers any more; their rows are gone, the caller removes the bytes
    after the commit.
    """
    policy = policy_of(session.get_one(Job, job_id))
    _, removed, _ = plan(session, job_id, policy)
    digests = {file.blob_sha256 for row in removed for file in row.files}
    if not digests:
        return []
    blobs.lock(session, digests)  # who just began to refer to one of them is seen now, and nobody else begins
    still = {row.id for row in plan(session, job_id, policy)[1]}
    for row in removed:
        if row.id in still:
            session.delete(row)
    session.flush()
    return blobs.release(session, digests)


def forget_all(session: Session, job_id: int) -> list[str]:
    """Forget every checkpoint of a completed job that trains nothing: nothing goes on from them, and its files tell all.

    Returns what `retain` does; of any other job nothing is forgotten.
    """
    done = (Job.kind != "train", Job.state == "completed")
    query = newest_first(job_id).join(Job, Job.id == Checkpoint.job_id).where(*done)
    digests = {file.blob_sha256 for row in session.scalars(query) for file in row.files}
    if not digests:
        return []
    blobs.lock(session, digests)
    for row in session.scalars(query).all():  # those that nobody else has forgotten meanwhile
        session.delete(row)
    session.flush()
    return blobs.release(session, digests)


def own_size(session: Session, rows: Sequence[Checkpoint]) -> int:
    """Return how many bytes deleting checkpoints frees: those of files that nothing else refers to."""
    sizes = {file.blob_sha256: file.blob.size for row in rows for file in row.files}
    others = select(CheckpointFile.blob_sha256).where(
        CheckpointFile.blob_sha256.in_(sizes), CheckpointFile.checkpoint_id.not_in([row.id for row in rows])
    )
    shared = set(session.scalars(others)) | set(blobs.referred_to(session, sizes, beside=CheckpointFile))
    return sum(size for digest, size in sizes.items() if digest not in shared)


def policy_of(job: Job) -> CheckpointPolicy:
    """Return the policy that a job has."""
    return CheckpointPolicy.model_validate(job.checkpoint_policy)


def set_policy(session: Session, job_id: int, retention: Retention, engine: Engine, who: str) -> list[str]:
    """Give a job another policy, and forget at once what it does not keep. Returns what `retain` does.

    Raises:
        NotFound: there is no such job.
        Invalid: the job never measures the metric.
    """
    job = session.get(Job, job_id, with_for_update=True, populate_existing=True)
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    policy = policy_of(job).model_copy(update=retention.model_dump())
    if problem := unknown_metric(engine, job.kind, job.resolved, policy.keep_best, "/keep_best"):
        raise Invalid([problem])
    job.checkpoint_policy = policy.model_dump()
    job.version += 1
    tell(session, job.id, "retention", f"{who} set what is kept: {in_words(policy)}", data=retention.model_dump())
    session.flush()
    return retain(session, job_id)


def in_words(policy: CheckpointPolicy) -> str:
    """Return what a policy keeps, in words."""
    parts = [f"the newest {policy.keep_last}"]
    parts += [f"the best {policy.keep_best}"] if policy.keep_best else []
    parts += [f"every {policy.keep_every} steps"] if policy.keep_every else []
    return ", ".join(parts)


def unknown_metric(
    engine: Engine, kind: str, config: Mapping[str, Any], key: str | None, pointer: str
) -> Problem | None:
    """Return what is wrong with choosing the best by this metric; None when nothing is, or it cannot be known."""
    known = engine.metric_keys(config) if key is not None and kind == "train" else None
    if key is None or known is None or key in known:
        return None
    validates = any(name.startswith("val/") for name in known)
    why = "" if validates or not key.startswith("val/") else ": it has no validation data"
    return Problem(
        code="unknown-metric",
        message=f"this training never measures {key!r}{why}",
        pointer=pointer,
        hint=f"It measures {', '.join(sorted(known))}.",
    )


def warn_unmeasured(session: Session, job: Job, checkpoint: Checkpoint) -> None:
    """Say once, with a job's first checkpoint, that it has no metric by which the best could be chosen."""
    key = policy_of(job).keep_best
    if key is None or key in checkpoint.metrics:
        return
    if session.scalar(
        select(Checkpoint.id).where(Checkpoint.job_id == job.id, Checkpoint.id != checkpoint.id).limit(1)
    ):
        return
    there_are = ", ".join(sorted(checkpoint.metrics)) or "none"
    message = (
        f"the checkpoint of step {checkpoint.step} has no metric {key!r}, by which the best is to be kept: {there_are}"
    )
    tell(session, job.id, "warning", message)
