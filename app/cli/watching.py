"""`cairn watch`: a job's progress, live, until it ends."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import httpx
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from app.cli.api import Api, connect, view
from app.cli.failures import FAILED, UNREACHABLE, Failure
from app.cli.screen import counted, duration, err, out, print_json_line, quantity, sparkline, standing, state
from app.wire.jobs import JobDetail, JobView, Progress
from app.wire.metrics import MetricSeries
from app.wire.states import FINAL_STATES

POLL_S = 0.5
PATIENCE_S = 120.0
"""How long a server that does not answer is waited for: a restart takes seconds, the training goes on meanwhile."""
CURVE_S = 2.0
CURVE_POINTS = 32
PLAIN_S = 10.0
"""Seconds between lines when the output is no terminal."""


@dataclass
class Picture:
    """What the display shows besides the job itself."""

    curves: dict[str, Sequence[float | None]] = field(default_factory=dict)
    footer: str | None = None
    trouble: str | None = None


def watch(job_id: int, *, as_json: bool) -> None:
    """Show a job until it ends; raise Failure unless it completed."""
    with connect() as api:
        watch_to_end(api, job_id, as_json=as_json)


def watch_to_end(api: Api, job_id: int, *, as_json: bool) -> None:
    """Show a job until it ends; raise Failure unless it completed. Ctrl-C ends the watching only, and says so."""
    try:
        job = watch_job(api, job_id, as_json=as_json)
    except KeyboardInterrupt:
        err().print(f"Job {job_id} goes on. `cairn watch {job_id}` shows it again, `cairn cancel {job_id}` stops it.")
        raise
    finish(job, as_json=as_json)


def watch_job(api: Api, job_id: int, *, as_json: bool = False, footer: str | None = None) -> JobDetail:
    """Show a job in the way that suits the output, and return it as it ended."""
    if as_json:
        return _as_json(api, job_id)
    return _live(api, job_id, footer) if out().is_terminal else _plain(api, job_id)


def finish(job: JobDetail, *, as_json: bool) -> None:
    """Say how a job ended; raise Failure unless it completed."""
    if job.state == "completed":
        if not as_json:
            done = f"after {counted(job.progress.step, job.progress.unit)}"
            what = "" if job.kind == "train" else " files"
            out().print(f"Job {job.id} [green]completed[/] {done}. `cairn download {job.id}{what}`")
        return
    if job.state == "cancelled":
        raise Failure(f"Job {job.id} was cancelled at {job.progress.unit} {job.progress.step}.", code="job-cancelled")
    raise Failure(
        f"Job {job.id} failed: {job.cause.message if job.cause else 'no cause was recorded'}",
        code=job.cause.failure if job.cause else "job-failed",
        hint=(job.cause.hint if job.cause else None) or f"`cairn logs {job.id} --tail 50` shows what it printed.",
        exit_code=FAILED,
    )


def follow(api: Api, job_id: int, picture: Picture | None = None) -> Iterator[JobDetail]:
    """Yield a job now, and again whenever it has changed or `picture.trouble` has, until it is in a final state."""
    picture = picture or Picture()
    etag = ""
    quiet_since = None
    last: JobDetail | None = None
    while last is None or last.state not in FINAL_STATES:
        try:
            response = api.request("GET", f"/jobs/{job_id}", headers={"If-None-Match": etag} if etag else {})
        except Failure as failure:
            quiet_since = quiet_since or time.monotonic()
            if failure.exit_code != UNREACHABLE or last is None or time.monotonic() - quiet_since > PATIENCE_S:
                raise
            picture.trouble = "The server does not answer; waiting for it. The job goes on meanwhile."
            yield last
        else:
            quiet_since, picture.trouble = None, None
            if response.status_code != httpx.codes.NOT_MODIFIED:
                etag = response.headers.get("ETag", "")
                last = view(JobDetail, response.json())
            assert last is not None, "304 answers a request that carried an ETag"
            yield last
        if last.state not in FINAL_STATES:
            time.sleep(POLL_S)


def _as_json(api: Api, job_id: int) -> JobDetail:
    seen = None
    for job in follow(api, job_id):
        line = job.model_dump(mode="json", include=set(JobView.model_fields))
        if line != seen:
            print_json_line(line)
            seen = line
    return job


def _plain(api: Api, job_id: int) -> JobDetail:
    shown: tuple[object, ...] = ()
    printed_at = 0.0
    for job in follow(api, job_id):
        standing = (job.state, job.progress.phase)
        stepped = job.progress.step and time.monotonic() - printed_at > PLAIN_S
        if standing != shown or stepped or job.state in FINAL_STATES:
            out().print(_line(job), soft_wrap=True)
            shown, printed_at = standing, time.monotonic()
    return job


def _line(job: JobView) -> str:
    progress = job.progress
    parts = [f"job {job.id}", job.state]
    if job.state == "running" and progress.phase:
        parts.append(progress.phase)
    if progress.step:
        parts.append(f"{progress.unit} {standing(progress.step, progress.total_steps)}")
        parts += [f"{_short(key)} {value}" for key, value in headline(progress)]
    if job.state == "running" and progress.eta_s is not None:
        parts.append(f"ETA {duration(progress.eta_s)}")
    return escape("  ".join(parts))


def _live(api: Api, job_id: int, footer: str | None) -> JobDetail:
    picture = Picture(footer=footer)
    curves_at = 0.0
    with Live(console=out(), refresh_per_second=4, transient=False) as live:
        for job in follow(api, job_id, picture):
            if job.progress.step and time.monotonic() - curves_at > CURVE_S and picture.trouble is None:
                picture.curves, curves_at = _curves(api, job), time.monotonic()
            live.update(render(job, picture))
    return job


def _curves(api: Api, job: JobView) -> dict[str, Sequence[float | None]]:
    keys = [key for key, _ in headline(job.progress)]
    try:
        found = api.get(f"/jobs/{job.id}/metrics", keys=",".join(keys), max_points=CURVE_POINTS)
    except Failure:
        # The curve is decoration: the loop around this call deals with a server that is gone.
        return {}
    return dict(view(MetricSeries, found).values)


def headline(progress: Progress) -> list[tuple[str, str]]:
    """Return the few metrics worth showing, most important first, each with its unit."""
    chosen = progress.headline or [key for key in progress.latest if not key.startswith("perf/")]
    return [(key, quantity(progress.latest.get(key), progress.units.get(key, ""))) for key in chosen[:8]]


def _short(key: str) -> str:
    return key.removeprefix("train/")


def render(job: JobView, picture: Picture) -> RenderableType:
    """Return the display of a job: a bar, the newest metrics with their curves, and notes."""
    parts: list[RenderableType] = [
        f"[bold]{escape(job.name)}[/] [dim]job {job.id}[/]  {state(job.state)}  {_phase(job)}"
    ]
    parts.append(_bar(job.progress))
    grid = Table.grid(padding=(0, 3, 0, 0))
    for key, value in headline(job.progress):
        grid.add_row(f"  [dim]{escape(_short(key))}[/]", value, sparkline(picture.curves.get(key, ())))
    parts.append(grid)
    if picture.trouble:
        parts.append(f"  [yellow]{picture.trouble}[/]")
    if picture.footer:
        parts.append(f"  {picture.footer}")
    return Group(*parts)


def _phase(job: JobView) -> str:
    waits = {"queued": "waiting for a worker", "checking": "waiting for a worker to list its model's tensors"}
    if job.state in waits:
        return f"[dim]{waits[job.state]}[/]"
    return f"[dim]{escape(job.progress.phase or '')}[/]" if job.state in ("running", "stopping") else ""


def _bar(progress: Progress) -> RenderableType:
    row = Table.grid(padding=(0, 2, 0, 0))
    speed = f"{progress.steps_per_s:.1f} {progress.unit}s/s" if progress.steps_per_s else ""
    remaining = f"ETA {duration(progress.eta_s)}" if progress.eta_s else ""
    count = f"{progress.unit} {standing(progress.step, progress.total_steps)}"
    total = progress.total_steps or (None if progress.phase else 1)  # a bar without a total moves to and fro
    bar = ProgressBar(total=total, completed=progress.step, width=36)
    row.add_row("", bar, count, speed, remaining)
    return row
