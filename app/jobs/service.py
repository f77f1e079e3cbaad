"""Jobs as clients read them."""

import base64
import binascii
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version

from sqlalchemy import ColumnElement, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, load_only

from app.engines import registry
from app.engines.base import Engine
from app.errors import Invalid, NotFound
from app.jobs import exactness_reading, files, leaves, provenance, subjects, tasks
from app.tables import Attempt, Job
from app.wire.jobs import AttemptView, JobDetail, JobPage, JobView, Progress
from app.wire.problems import Problem
from app.wire.provenance import JobDiff
from app.wire.system import EngineView, TaskView

LISTED = (
    Job.id, Job.name, Job.kind, Job.engine, Job.state, Job.created_at, Job.started_at, Job.ended_at, Job.updated_at,
    Job.step, Job.total_steps, Job.phase, Job.steps_per_s, Job.latest, Job.attempt, Job.cause, Job.tags, Job.priority,
    Job.seed, Job.determinism, Job.gpus, Job.digest, Job.start, Job.version,
    Job.reproduces_id, Job.reproduction, Job.group_id, Job.replica, Job.continues_id,
)  # fmt: skip
"""What `JobView` needs: a list reads no configs."""

FEW_RUNS = 3
"""Up to so many runs of a job that trains nothing have headline metrics of their own."""


@dataclass(frozen=True)
class Filters:
    """Which jobs a list shows; None and empty mean all."""

    states: Collection[str] = ()
    engine: str | None = None
    name: str | None = None
    tag: str | None = None
    group: int | None = None
    where: Sequence[str] = ()
    """Expressions on the resolved config, all of which hold (`leaves.matching`)."""


def get(session: Session, job_id: int) -> Job:
    """Return a job. Raises NotFound."""
    job = session.get(Job, job_id)
    if job is None:
        raise missing(job_id)
    return job


def missing(job_id: int) -> NotFound:
    """Return the error for a job that does not exist."""
    return NotFound(f"there is no job {job_id}", hint="`cairn ls` lists them.")


def version(session: Session, job_id: int) -> int:
    """Return a job's version: one column of one row, so that asking again costs nothing. Raises NotFound."""
    found = session.scalar(select(Job.version).where(Job.id == job_id))
    if found is None:
        raise missing(job_id)
    return found


def listed(session: Session, filters: Filters, *, cursor: str | None = None, limit: int = 50) -> JobPage:
    """Return one page of jobs, newest first, in one query."""
    statement = select(Job).options(load_only(*LISTED)).where(*_conditions(session, filters))
    if cursor is not None:
        statement = statement.where(Job.id < read_cursor(cursor))
    rows = session.scalars(statement.order_by(Job.id.desc()).limit(limit + 1)).all()
    more = len(rows) > limit
    return JobPage(
        items=[view(row) for row in rows[:limit]],
        next_cursor=cursor_after(rows[limit - 1].id) if more else None,
    )


def _conditions(session: Session, filters: Filters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if filters.states:
        conditions.append(Job.state.in_(filters.states))
    if filters.engine is not None:
        conditions.append(Job.engine == filters.engine)
    if filters.name:
        conditions.append(Job.name.icontains(filters.name, autoescape=True))
    if filters.tag is not None:
        conditions.append(_has_tag(session, filters.tag))
    if filters.group is not None:
        conditions.append(Job.group_id == filters.group)
    conditions += leaves.matching(filters.where)
    return conditions


def _has_tag(session: Session, tag: str) -> ColumnElement[bool]:
    if session.get_bind().dialect.name == "postgresql":
        return cast(Job.tags, JSONB).contains([tag])
    each = func.json_each(Job.tags).table_valued("value")
    return select(each.c.value).where(each.c.value == tag).exists()


def cursor_after(last_id: int) -> str:
    """Return the cursor of a list, newest first, after the row of this id."""
    return base64.urlsafe_b64encode(f"before:{last_id}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> int:
    """Return the id that a cursor names: rows before it come next. Raises Invalid."""
    try:
        plain = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        number = int(plain.removeprefix("before:"))
    except (binascii.Error, ValueError):
        number = -1
    if not 0 <= number < 2**63:
        message = "query parameter `cursor`: this is not a cursor of this list"
        raise Invalid([Problem(code="bad-cursor", message=message, hint="Leave it out to begin with the newest.")])
    return number


def view(job: Job) -> JobView:
    """Return a job as lists show it."""
    return JobView.model_validate(_fields(job))


def detail(session: Session, job: Job) -> JobDetail:
    """Return a job as its own page shows it."""
    attempts = session.scalars(select(Attempt).where(Attempt.job_id == job.id).order_by(Attempt.number))
    base, base_sha256 = provenance.base_of(session, job)
    return JobDetail.model_validate(
        _fields(job)
        | {
            "submitted": job.submitted,
            "resolved": job.resolved,
            "origins": job.origins,
            "seeds": job.seeds,
            "warnings": job.warnings,
            "attempts": [attempt_view(row) for row in attempts],
            "datasets": [f"dataset:{row.name}@{row.version}" for row in session.scalars(provenance.datasets_of(job))],
            "stop_reason": job.stop_reason,
            "start": job.start,
            "base": base,
            "base_sha256": base_sha256,
            "plan": job.plan,
            "inheritance": provenance.words(session, job),
            "weight_check": job.weight_check,
            "exactness": exactness_reading.of(session, job),
            "files": files.listed(session, job.id),
            "models": subjects.views(session, job.id),
            "test_on": job.test_on or [],
            "test_at": job.test_at or [],
            "test_every": job.test_every,
        }
    )


def diff(session: Session, left: int, right: int) -> JobDiff:
    """Return what the resolved configs of two jobs differ in. Raises NotFound."""
    return provenance.diff(get(session, left), get(session, right))


def _fields(job: Job) -> dict[str, object]:
    made = {"progress", "start_mode", "base", "reproduces", "group", "continues", "resources"}
    columns = set(JobView.model_fields) - made
    fields: dict[str, object] = {name: getattr(job, name) for name in columns}
    begun = {"start_mode": job.start.get("mode", "scratch"), "base": job.start.get("base")}
    related = {"reproduces": job.reproduces_id, "group": job.group_id, "continues": job.continues_id}
    return fields | begun | related | {"progress": progress(job), "resources": {"gpus": job.gpus}}


def progress(job: Job) -> Progress:
    """Return where a job stands, with the time left at its present speed."""
    eta_s = (job.total_steps - job.step) / job.steps_per_s if job.steps_per_s and job.total_steps else None
    return Progress(
        step=job.step,
        total_steps=job.total_steps,
        unit=tasks.unit(job),
        phase=job.phase,
        steps_per_s=job.steps_per_s,
        eta_s=eta_s if job.state == "running" else None,
        latest=job.latest,
        headline=_headline(job),
        units={key: unit for key in job.latest if (unit := registry.unit(job.engine, key))},
    )


def _headline(job: Job) -> list[str]:
    """Return a job's headline metrics; with several tasks, those of every task, with many runs none of a single run."""
    wanted = registry.headline(job.engine, job.kind)
    found = [[key for key in job.latest if key == want or key.startswith(f"{want}/")] for want in wanted]
    short = [] if job.kind == "train" else [key for keys in found if len(keys) <= FEW_RUNS for key in keys]
    return short or [key for keys in found for key in keys]


def attempt_view(row: Attempt) -> AttemptView:
    """Return one execution as clients read it."""
    return AttemptView.model_validate(
        {
            "number": row.number,
            "state": row.state,
            "worker": row.worker_name,
            "started_at": row.started_at,
            "ended_at": row.ended_at,
            "start_step": row.start_step,
            "cause": row.cause,
            "environment": row.environment,
        }
    )


def find_attempt(session: Session, job_id: int, number: int | None) -> Attempt | None:
    """Return an execution of a job, the newest without a number; None when it has none yet.

    Raises:
        NotFound: there is no such job, or no execution of that number.
    """
    version(session, job_id)
    statement = select(Attempt).where(Attempt.job_id == job_id)
    if number is None:
        return session.scalar(statement.order_by(Attempt.number.desc()).limit(1))
    row = session.scalar(statement.where(Attempt.number == number))
    if row is None:
        raise NotFound(f"job {job_id} has no execution {number}")
    return row


def engine_view(engine: Engine) -> EngineView:
    """Return an engine as clients read it."""
    return EngineView(
        name=engine.name,
        title=engine.title,
        library=engine.library,
        version=installed_version(engine.library),
        document=engine.document,
        data=engine.data_words.forms,
        weights=engine.weights_words,
        has_fitting=engine.has_fitting,
        metrics=dict(engine.metric_words),
        headline=list(engine.headline()),
        learning_curve_name=engine.learning_curve_name(),
        tasks=[
            TaskView(
                kind=kind,
                title=task.title,
                unit=task.unit,
                headline=list(task.headline()),
                measures=task.report is not None,
            )
            for kind, task in engine.tasks.items()
        ],
    )


def known_engine(name: str) -> Engine:
    """Return an engine by name. Raises NotFound."""
    engine = registry.get(name)
    if engine is None:
        raise NotFound(f"there is no engine {name}", hint="GET /api/v1/engines lists them.")
    return engine
