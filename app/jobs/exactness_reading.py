"""What the database knows of a job's exactness: its executions, what each began with and ran on, audit and verdicts."""

from collections.abc import Iterator

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.engines import registry
from app.jobs.exactness import Execution, History, exactness
from app.tables import Attempt, Event, Job
from app.wire.jobs import Exactness
from app.wire.states import Verdict
from app.wire.submission import Start
from app.wire.worker import INEXACT


def of(session: Session, job: Job) -> Exactness | None:
    """Return whether a job is exact, and why; None before its first execution, and when it always begins anew."""
    task = registry.task(job.engine, job.kind)
    if job.kind != "train" and not (task and task.resumes):
        return None
    chain = list(_chain(session, job))
    history = History(
        level=job.determinism,  # type: ignore[arg-type]
        start_step=chain[0].start_step,
        draws_weights=job.kind == "train" and Start.model_validate(chain[0].start).mode != "resume",
        audit=_audit(session, chain),
        executions=[execution for link in chain for execution in _executions(session, link, of=job)],
        verdicts=_verdicts(session, job),
        trains=job.kind == "train",
    )
    return exactness(history)


def _chain(session: Session, job: Job) -> Iterator[Job]:
    """Yield a job after those whose checkpoints it goes on from, the first one first."""
    if job.continues_id is not None:
        yield from _chain(session, session.get_one(Job, job.continues_id))
    yield job


def _executions(session: Session, link: Job, of: Job) -> Iterator[Execution]:
    claims = select(Event.attempt, Event.data).where(Event.job_id == link.id, Event.kind == "claimed")
    begins = {number: data.get("begin") for number, data in session.execute(claims)}
    told = select(Event.attempt, Event.message).where(Event.job_id == link.id, Event.kind == INEXACT)
    inexact: dict[int | None, list[str]] = {}
    for number, words in session.execute(told.order_by(Event.id)):
        inexact.setdefault(number, []).append(words)
    columns = Attempt.number, Attempt.start_step, Attempt.environment
    rows = session.execute(select(*columns).where(Attempt.job_id == link.id).order_by(Attempt.number))
    for number, start_step, environment in rows:
        name = f"execution {number}" + ("" if link is of else f" of job {link.id}")
        yield Execution(name, start_step, begins.get(number), environment, inexact.get(number, ()))


def _audit(session: Session, chain: list[Job]) -> str | None:
    """Return what the newest audit found: one that a component failed ends the job without telling."""
    told = select(Event.message).where(Event.job_id.in_([link.id for link in chain]), Event.kind == "audit")
    return session.scalar(told.order_by(Event.id.desc()).limit(1))


def _verdicts(session: Session, job: Job) -> dict[int, Verdict]:
    """Return how a job compares with those that ran the same spec, as far as both have ended."""
    columns = Job.id, Job.reproduces_id, Job.reproduction
    pairs = select(*columns).where(Job.reproduction.is_not(None), or_(Job.id == job.id, Job.reproduces_id == job.id))
    found = session.execute(pairs.order_by(Job.id).limit(10))
    return {(row.reproduces_id if row.id == job.id else row.id): row.reproduction for row in found}
