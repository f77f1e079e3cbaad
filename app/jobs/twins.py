"""The weight check before training: looks for jobs that train the same, and lets a new one go on from a twin's checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import func, or_, select, text
from sqlalchemy.orm import Session

from app.artifacts import service as blobs
from app.artifacts.store import BlobStore
from app.jobs import chosen, intact
from app.jobs.chosen import Chosen
from app.jobs.timeline import tell, touch
from app.jobs.weight_check import Twin, decide
from app.tables import Checkpoint, CheckpointFile, Job
from app.wire.resolution import WeightCheck
from app.wire.submission import Determinism, JobSubmit, OnExisting

AS_STRICT = {"strict": ["strict"], "seeded": ["strict", "seeded"], "fast": ["strict", "seeded", "fast"]}
"""What a twin's determinism may be, by what is asked for: who wants equal bits is given no training without them."""

TAKEN_OVER = 0
"""`Checkpoint.attempt` of those that a job has from its twin, before its first execution."""


@dataclass(frozen=True)
class Wanted:
    """A training that was submitted."""

    identity: str
    determinism: Determinism
    policy: OnExisting | None


@dataclass(frozen=True)
class Found:
    """What was decided, and what of the store it rests on."""

    check: WeightCheck
    good: Checkpoint | None = None
    """The newest good checkpoint of the twin that the decision is about."""
    group: int | None = None
    """The group of that twin."""
    damaged: frozenset[str] = frozenset()
    """Digests of files that are missing or changed."""


def hold(session: Session, wanted: Sequence[Wanted]) -> None:
    """Let nobody else decide on submissions of the same trainings before this transaction is over."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer anyway
        for name in sorted(f"training {one.identity}" for one in wanted):
            session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": name})


def settle(session: Session, store: BlobStore, wanted: Wanted) -> Found:
    """Return what becomes of a submission; the files that it then needs stay until this transaction is over."""
    while True:
        found = look(session, store, wanted)
        if found.good is None or all(blobs.hold_blob(session, file.blob_sha256) for file in found.good.files):
            return found


def look(session: Session, store: BlobStore, wanted: Wanted) -> Found:
    """Return what becomes of a submission. Only reads."""
    twins = _twins(session, wanted)
    searches: dict[int, intact.Search] = {}
    # What nothing depends on is not hashed: whatever is left of a training that is done, or a choice without weights.
    for twin in [] if wanted.policy in ("new", "fail") else _in_order(twins):
        search = searches[twin.job] = intact.newest_good(session, store, twin.job)
        if search.good is not None and (twin.state != "completed" or search.warning is None):
            break
    seen = [replace(twin, files=searches[twin.job].files) if twin.job in searches else twin for twin in twins]
    check = decide(wanted.identity, wanted.policy, seen)
    damaged = frozenset[str]().union(*(search.damaged for search in searches.values()))
    good = searches[check.twin].good if check.twin in searches else None
    return Found(check, good, next((twin.group for twin in twins if twin.job == check.twin), None), damaged)


def _twins(session: Session, wanted: Wanted) -> list[Twin]:
    """Return the jobs of an identity, newest first.

    A reproduction counts once it is completed: it then is the same training. One that ended early is never gone on
    from, because its worth is that it was made without the other; and a reproduction itself looks for nobody.
    """
    count, newest = (
        select(number).where(Checkpoint.job_id == Job.id).scalar_subquery()
        for number in (func.count(), func.max(Checkpoint.step))
    )
    query = (
        select(Job.id, Job.state, Job.step, Job.total_steps, count, newest, Job.group_id)
        .where(Job.digest == wanted.identity, Job.kind == "train", Job.determinism.in_(AS_STRICT[wanted.determinism]))
        .where(or_(Job.reproduces_id.is_(None), Job.state == "completed"))
        .order_by(Job.id.desc())
    )
    return [Twin(*row) for row in session.execute(query)]


def same_task(session: Session, submit: JobSubmit, identity: str) -> WeightCheck | None:
    """Return that a job which trains nothing answers a submission of the same, if that is wanted and there is one."""
    if submit.kind == "train" or submit.on_existing != "reuse":
        return None
    query = select(Job.id, Job.state).where(
        Job.digest == identity,
        Job.kind == submit.kind,
        Job.determinism == submit.determinism,
        Job.state.in_(("completed", "running", "queued")),
    )
    found = session.execute(query.order_by(Job.state != "completed", Job.id.desc()).limit(1)).one_or_none()
    if found is None:
        return None
    words = f"Job {found.id}, which is {found.state}, does the same with the same models and data: it is the answer."
    twin = {"twins": {found.id: found.state}, "twin": found.id}
    return WeightCheck(identity=identity, policy="reuse", decision="reuse", summary=words, **twin)


def _in_order(twins: Sequence[Twin]) -> list[Twin]:
    """Return those whose weights matter: the completed ones first, then those that ended early, the furthest first."""
    completed = [twin for twin in twins if twin.state == "completed"]
    if any(twin.role in ("live", "paused") for twin in twins):
        return completed
    early = [twin for twin in twins if twin.state != "completed"]
    return [*completed, *sorted(early, key=lambda twin: twin.newest or 0, reverse=True)]


def act(session: Session, job: Job, found: Found) -> None:
    """Put on a new job, just stored, what was decided on it; let it go on from its twin's checkpoint if that is it."""
    job.weight_check = found.check.model_dump(mode="json")
    if found.check.twins:
        tell(session, job.id, "weight-check", found.check.summary, data=job.weight_check)
    if found.check.decision == "resume":
        _go_on(session, job, found)
    session.flush()


def _go_on(session: Session, job: Job, found: Found) -> None:
    """Give a job the checkpoints of its twin up to the good one.

    They are its own from now on: the same blobs, which nothing sweeps while they are referred to, and older ones to fall
    back on.
    """
    good, twin = found.good, session.get_one(Job, found.check.twin)
    assert good is not None, "a training goes on from a checkpoint"
    job.continues_id, job.step, job.latest = twin.id, good.step, dict(twin.latest)
    older = select(Checkpoint).where(Checkpoint.job_id == twin.id, Checkpoint.step < good.step)
    by_step = {row.step: row for row in session.scalars(older.order_by(Checkpoint.id))}
    for row in [*by_step.values(), good]:
        if all(blobs.hold_blob(session, file.blob_sha256) for file in row.files):
            session.add(_taken_over(job, row))


def _taken_over(job: Job, row: Checkpoint) -> Checkpoint:
    files = [CheckpointFile(name=file.name, role=file.role, blob_sha256=file.blob_sha256) for file in row.files]
    return Checkpoint(
        job_id=job.id,
        attempt=TAKEN_OVER,
        step=row.step,
        metrics=row.metrics,
        fingerprint=row.fingerprint,
        files=files,
        created_at=row.created_at,
    )


def reuse(session: Session, check: WeightCheck) -> Job:
    """Return the twin that answers a submission, and say so on its timeline."""
    assert check.twin is not None, "somebody is reused"
    tell(session, check.twin, "reused", "submitted again, and answered with this job", data={"policy": check.policy})
    touch(session, check.twin)
    return session.get_one(Job, check.twin, populate_existing=True)


def measure_too(session: Session, check: WeightCheck, test_on: Sequence[str], choice: Chosen) -> None:
    """Have the twin that answers a submission measured on what that one asks for, beside what it is to be anyway."""
    job = session.get_one(Job, check.twin)
    new = [text for text in test_on if text not in (job.test_on or ())]
    chooses = bool(test_on and choice)
    if chooses:
        job.test_at = sorted({*(job.test_at or ()), *choice.at}) or None
        job.test_every = choice.every or job.test_every
        job.tested_until = 0
        for problem in chosen.gone(session, job.id, choice, "/test_at"):
            tell(session, job.id, "warning", f"not measured at a step that was chosen: {problem.message}")
    if new or chooses:
        job.test_on = [*(job.test_on or ()), *new] or None
        at = f" at {choice}" if chooses else ""
        told = f"to be measured on {', '.join(test_on if chooses else new)}{at}, too, as a submission of the same asks"
        tell(session, job.id, "changed", told)
        touch(session, job.id)
