"""Metrics over REST: charts as JSON, whole histories as CSV, Arrow or the engine's own learning curve."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from app import auth
from app.artifacts.transfer import content_disposition
from app.db import ReadSession
from app.errors import Conflict
from app.jobs import metric_export, metric_reading, service
from app.jobs.downsampling import MIN_POINTS, downsample
from app.jobs.selection import Selection
from app.jobs.series import Series
from app.wire.metrics import MetricKeys, MetricSeries
from app.wire.problems import ErrorBody
from app.wire.worker import METRICS_MEDIA_TYPE

router = APIRouter(
    prefix="/api/v1/jobs/{job_id}/metrics",
    tags=["metrics"],
    dependencies=[Depends(auth.user)],
    responses={code: {"model": ErrorBody} for code in (401, 404, 409, 422)},
)

JSON_POINTS = 10_000
"""Points per key of a JSON answer that does not say how many it wants. CSV and Arrow give all of them."""

JobId = Annotated[int, Path(ge=1, lt=2**63)]


class JobSelection(Selection):
    """Which metrics of a job, how many points of them, and in which form."""

    max_points: int | None = Field(
        default=None,
        ge=MIN_POINTS,
        le=1_000_000,
        description=f"Most points per key, extremes kept. Default: {JSON_POINTS} in JSON, all otherwise.",
    )
    format: Literal["json", "csv", "arrow", "learning-curve", "lcurve", "lcurve.out"] = "json"


@router.get("", response_model=MetricSeries, responses={304: {"description": "Unchanged"}})
def read_metrics(
    job_id: JobId, selection: Annotated[JobSelection, Query()], request: Request, session: ReadSession
) -> Response:
    """Read metrics of a job: one history, in which each attempt's values count from its start step on."""
    tag = f'W/"metrics-{job_id}-{service.version(session, job_id)}"'
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag})
    if selection.format == "json":
        series = _read(session, job_id, selection, selection.max_points or JSON_POINTS)
        return Response(as_json(series), media_type="application/json", headers={"ETag": tag})
    return _export(job_id, selection, request, session, tag)


@router.get("/keys")
def list_metric_keys(job_id: JobId, session: ReadSession) -> MetricKeys:
    """List what was measured: number of values, first and last step, newest value."""
    service.version(session, job_id)
    return MetricKeys(keys=metric_reading.list_keys(session, job_id))


def _read(session: ReadSession, job_id: int, selection: JobSelection, max_points: int) -> dict[str, Series]:
    found = metric_reading.read(session, job_id, selection.key_list, selection.from_step, selection.to_step, max_points)
    return {key: downsample(series, max_points) for key, series in found.items()}


def as_json(columns: dict[str, Series]) -> bytes:
    """Return a MetricSeries."""
    values: dict[str, list[float | None]] = {}
    odd: dict[str, list[tuple[int, Any]]] = {}
    for key, series in columns.items():
        listed: list[float | None] = series.values.tolist()
        for index in np.flatnonzero(~np.isfinite(series.values)):
            odd.setdefault(key, []).append((int(series.steps[index]), str(listed[index])))
            listed[index] = None
        values[key] = listed
    steps = {key: series.steps.tolist() for key, series in columns.items()}
    # These are numbers of our own: validating a hundred thousand of them would take longer than reading them.
    answer = MetricSeries.model_construct(steps=steps, values=values, non_finite=odd)
    return answer.model_dump_json().encode()


def _export(job_id: int, selection: JobSelection, request: Request, session: ReadSession, tag: str) -> Response:
    """Answer with a table of all keys over all steps, streamed: the session is gone when the body is sent."""
    job = service.get(session, job_id)
    history = metric_export.History(
        sessions=request.app.state.sessions,
        job_id=job_id,
        keys=metric_reading.matching(session, job_id, selection.key_list),
        ranges=metric_reading.windows(session, job_id, selection.from_step, selection.to_step),
        max_points=selection.max_points,
    )
    name = f"{job.file_stem}-metrics"
    if selection.format == "csv":
        return _streamed(metric_export.csv(history), "text/csv", f"{name}.csv", tag)
    if selection.format == "arrow":
        return _streamed(metric_export.arrow(history), METRICS_MEDIA_TYPE, f"{name}.arrows", tag)
    if job.kind != "train":
        message = f"job {job_id} is of kind {job.kind}: only trainings have a learning curve"
        raise Conflict(message, code="no-learning-curve", hint="Ask for format=csv or format=arrow.")
    engine = service.known_engine(job.engine)
    lines = metric_export.learning_curve(history, engine, job.resolved)
    return _streamed(lines, "text/plain; charset=utf-8", engine.learning_curve_name(), tag)


def _streamed(body: Iterator[bytes], media_type: str, file_name: str, tag: str) -> Response:
    headers = {"ETag": tag, "Content-Disposition": content_disposition(file_name)}
    return StreamingResponse(body, media_type=media_type, headers=headers)
