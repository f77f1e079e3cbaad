"""The list of jobs and the pages of one job."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict

from fastapi import APIRouter, Form, Path, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import Field
from sqlalchemy.orm import Session

from app.artifacts.store import Blobs
from app.auth import CurrentUser
from app.db import ReadSession, WriteSession
from app.engines import registry
from app.errors import Invalid
from app.jobs import checkpoints, held_out, logs, measurements, queueing, reproduction, service, timeline, transitions
from app.web import plan, seeds, tree, words
from app.web.pages import (
    Filters,
    JobConfigPage,
    JobHistoryPage,
    JobLogPage,
    JobOverviewPage,
    JobSeedsPage,
    JobsPage,
    JobTransferPage,
    MetricColumn,
)
from app.web.parity import plotted
from app.web.render import render
from app.wire.jobs import Event, JobDetail, JobPage, JobView
from app.wire.problems import Problem
from app.wire.states import FINAL_STATES

router = APIRouter(include_in_schema=False)

JobId = Annotated[int, Path(ge=1, lt=2**63)]
JobNumber = Annotated[int, Field(ge=1, lt=2**63)]

PER_PAGE = 50
COLUMNS = 3
"""Metric columns of the list: what fits beside the rest at 1280 pixels."""
LATELY = 8
SAMPLES = 12
"""Texts of a language model that its page shows."""
LOG_LINES = 2000
LATEST_LINES = 100
CHECKPOINTS_LOGGED = 50
"""Checkpoints whose generators' states are shown."""


@router.get("/jobs")
def show_jobs(
    request: Request,
    _: CurrentUser,
    session: ReadSession,
    q: str = "",
    state: Annotated[list[str], Query()] = [],  # noqa: B006 - FastAPI copies it
    tag: str = "",
    where: str = "",
    cursor: str | None = None,
) -> Response:
    """The list of jobs."""
    states = tuple(s for s in words.STATES if s in state)
    filters = Filters(q=q.strip(), states=states, tag=tag.strip(), where=where.strip())
    found, problems = search(session, filters, cursor or None)
    page = JobsPage(
        jobs=found.items,
        summaries=reproduction.summaries(session, [job.id for job in found.items if job.reproduction]),
        filters=filters,
        problems=problems,
        columns=columns(found.items),
        states=words.STATES,
        older=filters.url(cursor=found.next_cursor) if found.next_cursor else None,
        first_page=not cursor,
        server=request.app.state.settings.effective_public_url,
        commands=[engine.data_words.command for engine in registry.ENGINES],
    )
    return render(request, page)


def search(session: Session, filters: Filters, cursor: str | None) -> tuple[JobPage, list[Problem]]:
    """Return the jobs that the filters leave; none, and the reasons, when the search cannot be read."""
    wanted = service.Filters(
        states=filters.states,
        name=filters.q or None,
        tag=filters.tag or None,
        where=[text for text in filters.where.split(";") if text.strip()],
    )
    try:
        return service.listed(session, wanted, cursor=cursor, limit=PER_PAGE), []
    except Invalid as error:
        if error.problem.code != "bad-search":
            raise
        return JobPage(items=[]), list(error.body().problems) or [error.problem]


def columns(jobs: Sequence[JobView]) -> list[MetricColumn]:
    """Return the headline metrics that any of these jobs has a value of, those of trainings first."""
    kinds = sorted({(job.kind != "train", job.engine, job.kind) for job in jobs}, reverse=True)
    engines = {key: engine for _, engine, kind in kinds for key in reversed(registry.headline(engine, kind))}
    keys = list(reversed(engines))
    present = [key for key in keys if any(job.progress.latest.get(key) is not None for job in jobs)][:COLUMNS]
    described = [(key, words.describe(engines[key], key)) for key in present]
    return [MetricColumn(key, words.column_title(engines[key], key), known.unit) for key, known in described]


class Framed(TypedDict):
    """What the head of each of a job's pages shows; see `JobFrame`."""

    job: JobDetail
    version: int
    headline: Sequence[str]
    summary: str | None
    other_version: tuple[str, str, str] | None


def framed(request: Request, session: Session, job_id: int) -> Framed:
    """Return what the head of a job's pages shows. Raises NotFound."""
    row = service.get(session, job_id)
    job = service.detail(session, row)
    job.unserved = queueing.unserved(session, row, request.app.state.settings)
    summary = reproduction.summaries(session, [job_id]).get(job_id) if job.reproduction else None
    return {
        "job": job,
        "version": row.version,
        "headline": job.progress.headline,
        "summary": summary,
        "other_version": reproduction.other_version(session, row) if registry.get(job.engine) else None,
    }


@router.get("/jobs/compare")
def choose_comparison(_: CurrentUser, job: Annotated[list[JobNumber], Query(min_length=2, max_length=2)]) -> Response:
    """Go from the two jobs that a form names to the page that compares them."""
    return RedirectResponse(f"/jobs/{job[0]}/diff/{job[1]}", 303)


@router.get("/jobs/{job_id}")
def show_job(request: Request, _: CurrentUser, session: ReadSession, store: Blobs, job_id: JobId) -> Response:
    """A job's charts, checkpoints, and what happened lately."""
    frame = framed(request, session, job_id)
    job = frame["job"]
    engine = registry.get(job.engine)
    log, log_size = end_of_log(session, job_id, LATEST_LINES)
    report = measurements.report(session, store, service.get(session, job_id))
    page = JobOverviewPage(
        **frame,
        report=report,
        plots=[plotted(one) for one in measurements.plots(session, store, job_id, report)] if report else (),
        tests=measurements.of_training(session, store, job_id) if job.kind == "train" else (),
        testable=job.kind == "train" and engine is not None and held_out.measuring(engine) is not None,
        frozen=frozen(session, job),
        relaxed=measurements.relaxed(session, store, service.get(session, job_id)),
        checkpoints=checkpoints.listed(session, job_id),
        events=timeline.newest(session, job_id, LATELY, without="sample"),
        log=log,
        log_size=log_size,
        board=board(job),
        learning_curve=engine.learning_curve_name() if engine else "metrics",
        samples=timeline.newest_of(session, job_id, "sample", SAMPLES),
        exports=engine.exports if engine else {},
    )
    return render(request, page)


def frozen(session: Session, job: JobDetail) -> list[Event]:
    """Return what was told of the frozen models that are among a job's files."""
    if job.kind == "train":
        return []
    told = timeline.newest_of(session, job.id, "frozen", len(job.files))
    return [event for event in reversed(told) if event.attempt == job.attempt]


def board(job: JobDetail) -> dict[str, Any]:
    """Return what the charts need to know."""
    return {
        "job": job.id,
        "axis": job.progress.unit,
        "final": job.state in FINAL_STATES,
        "words": words.panels(job.engine, job.progress.latest),
    }


@router.get("/jobs/{job_id}/config")
def show_config(request: Request, _: CurrentUser, session: ReadSession, job_id: JobId) -> Response:
    """A job's resolved configuration with origins."""
    frame = framed(request, session, job_id)
    job = frame["job"]
    page = JobConfigPage(**frame, rows=tree.rows(job.resolved, job.origins), counts=tree.counts(job.origins))
    return render(request, page)


@router.get("/jobs/{job_id}/transfer")
def show_transfer(request: Request, _: CurrentUser, session: ReadSession, job_id: JobId) -> Response:
    """What became of every tensor of a job's base."""
    frame = framed(request, session, job_id)
    made = frame["job"].plan
    return render(request, JobTransferPage(**frame, parts=plan.parts(made) if made else []))


@router.get("/jobs/{job_id}/seeds")
def show_seeds(request: Request, _: CurrentUser, session: ReadSession, job_id: JobId) -> Response:
    """A job's seeds with what the audit found, and the states of the random generators at its checkpoints."""
    frame = framed(request, session, job_id)
    audit = next(iter(timeline.newest_of(session, job_id, "audit", 1)), None)
    logged = seeds.generator_rows(timeline.newest_of(session, job_id, "checkpoint", CHECKPOINTS_LOGGED))
    page = JobSeedsPage(
        **frame,
        audit=audit,
        rows=seeds.rows(frame["job"].seeds, audit),
        logged=logged,
        generators=seeds.generators(logged),
    )
    return render(request, page)


@router.get("/jobs/{job_id}/log")
def show_log(request: Request, _: CurrentUser, session: ReadSession, job_id: JobId) -> Response:
    """The end of the newest attempt's log."""
    frame = framed(request, session, job_id)
    text, size = end_of_log(session, job_id, LOG_LINES)
    return render(request, JobLogPage(**frame, text=text, size=size))


def end_of_log(session: Session, job_id: int, lines: int) -> tuple[str, int]:
    """Return the last lines of the newest attempt's log, and how many bytes the log has."""
    attempt = service.find_attempt(session, job_id, None)
    if attempt is None:
        return "", 0
    return logs.tail(session, attempt.id, attempt.log_size, lines).decode(errors="replace"), attempt.log_size


@router.get("/jobs/{job_id}/history")
def show_history(request: Request, _: CurrentUser, session: ReadSession, job_id: JobId) -> Response:
    """A job's attempts and everything that happened."""
    frame = framed(request, session, job_id)
    return render(request, JobHistoryPage(**frame, events=timeline.newest(session, job_id)))


@router.post("/jobs/{job_id}/cancel")
def cancel(
    user: CurrentUser, session: WriteSession, job_id: JobId, how: Annotated[Literal["checkpoint", "now"], Form()]
) -> Response:
    """Cancel a job and go back to its page."""
    transitions.cancel(session, job_id, at_once=how == "now", reason=f"{user.name}, in the dashboard")
    return RedirectResponse(f"/jobs/{job_id}", 303)
