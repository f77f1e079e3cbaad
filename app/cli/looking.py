"""`cairn ls|show|cancel`: jobs in words."""

from typing import Any

from rich.markup import escape

from app.cli.api import Api, connect, view
from app.cli.errors import print_tests
from app.cli.measuring import chosen
from app.cli.screen import ago, duration, out, print_json, size, standing, state, table
from app.cli.starting import words
from app.cli.transfer import kept
from app.cli.watching import headline
from app.wire.checkpoints import CheckpointView
from app.wire.jobs import AttemptView, Exactness, JobDetail, JobFile, JobPage, JobView, of_all
from app.wire.measuring import Measured


def pages(api: Api, path: str, limit: int, **filters: Any) -> list[Any]:
    """Return up to `limit` items of a list, following its cursor."""
    items: list[Any] = []
    cursor = None
    while len(items) < limit:
        page = api.get(path, limit=min(limit - len(items), 100), cursor=cursor, **filters)
        items += page["items"]
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    return items[:limit]


def list_jobs(filters: dict[str, Any], *, limit: int, as_json: bool) -> None:
    """Print jobs, newest first."""
    with connect() as api:
        found = pages(api, "/jobs", limit, **filters)
    if as_json:
        print_json(found)
        return
    jobs = view(JobPage, {"items": found}).items
    if not jobs:
        out().print("No jobs match." if filters else "No jobs. `cairn submit input.json` makes one.")
        return
    kinds = any(job.kind != "train" for job in jobs)
    rows = table("job", *["kind"] * kinds, "name", "state", "progress", "newest", "created", right=("job", "progress"))
    for job in jobs:
        rows.add_row(str(job.id), *[job.kind] * kinds, *_row(job))
    out().print(rows)


def _row(job: JobView) -> list[str]:
    newest = ", ".join(f"{key.removeprefix('train/')} {value}" for key, value in headline(job.progress)[:2])
    share = standing(job.progress.step, job.progress.total_steps)
    return [escape(job.name), state(job.state), share, escape(newest), ago(job.created_at)]


def show_job(job_id: int, *, as_json: bool) -> None:
    """Print all that is known of a job but its config."""
    with connect() as api:
        found = api.get(f"/jobs/{job_id}")
        checkpoints = api.get(f"/jobs/{job_id}/checkpoints")
        tests = api.get(f"/jobs/{job_id}/tests")
    if as_json:
        print_json({**found, "checkpoints": checkpoints, "tests": tests})
        return
    job = view(JobDetail, found)
    out().print(f"[bold]{escape(job.name)}[/] [dim]job {job.id}[/]  {state(job.state)}")
    for label, value in _facts(job):
        out().print(f"  [dim]{label:<12}[/]{value}")
    print_tests([view(Measured, item) for item in tests])
    _print_attempts(job.attempts)
    _print_files(job.files)
    saved = [view(CheckpointView, item) for item in checkpoints]
    if job.kind == "train":
        _print_checkpoints(saved)
    else:
        _print_saved(job, saved)


def _facts(job: JobDetail) -> list[tuple[str, str]]:
    progress = job.progress
    facts = [("progress", f"{progress.unit} {of_all(progress.step, progress.total_steps)}")]
    if job.state == "running":
        facts.append(("now", f"{escape(progress.phase or '')}, ETA {duration(progress.eta_s)}"))
    facts += [("why", escape(job.stop_reason))] if job.stop_reason else []
    if job.unserved:
        facts.append(("waits", f"[yellow]no worker can take it now:[/] {escape(job.unserved)}"))
    if job.cause:
        facts.append(("cause", f"[red]{escape(job.cause.failure)}[/]: {escape(job.cause.message)}"))
        facts += [("", f"[cyan]→[/] {escape(job.cause.hint)}")] if job.cause.hint else []
    facts += [("", f"{escape(key)} {value}") for key, value in headline(progress)]
    if job.base:
        facts.append(("start", escape(words(job.start, job.base)) + (f", {kept(job.plan)}" if job.plan else "")))
    facts += [("data", escape(", ".join(job.datasets)))] if job.datasets else []
    facts += [("to test on", escape(", ".join(job.test_on)) + chosen(job))] if job.test_on else []
    facts += [("models", escape(", ".join(model.name for model in job.models)))] if job.models else []
    facts.append(("seed", f"{job.seed if job.seeds else 'none'} ({job.determinism})"))
    facts += [("gpus", str(job.resources.gpus))] if job.resources.gpus > 1 else []
    if job.weight_check and job.weight_check.twins:
        facts.append(("twin", escape(job.weight_check.summary)))
    facts += _exactness(job.exactness)
    if job.group:
        facts.append(("group", f"{job.group}" + (f", replica {job.replica}" if job.replica else "")))
    if job.reproduces:
        facts.append(("reproduces", f"job {job.reproduces}" + (f": {job.reproduction}" if job.reproduction else "")))
    facts += [("tags", escape(", ".join(job.tags)))] if job.tags else []
    facts.append(("created", ago(job.created_at)))
    if job.started_at and job.ended_at:
        facts.append(("took", duration((job.ended_at - job.started_at).total_seconds())))
    facts += [("warning", f"[yellow]{escape(notice.message)}[/]") for notice in job.warnings]
    return facts


def _exactness(found: Exactness | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    facts = [("exactness", "[green]exact[/]" if found.exact else "[yellow]not proven[/]")]
    return facts + [("", escape(sentence)) for sentence in [*found.reasons, *found.proof]]


def _print_attempts(attempts: list[AttemptView]) -> None:
    if len(attempts) < 2 and not any(attempt.cause for attempt in attempts):
        return
    rows = table("attempt", "state", "worker", "from step", "ended by", right=("attempt", "from step"))
    for attempt in attempts:
        cause = attempt.cause.message if attempt.cause else ""
        rows.add_row(str(attempt.number), attempt.state, escape(attempt.worker), str(attempt.start_step), escape(cause))
    out().print(rows)


def _print_files(files: list[JobFile]) -> None:
    rows = table("file", "size", "sha256", right=("size",))
    for file in files:
        rows.add_row(escape(file.name), size(file.size), file.sha256[:12])
    if files:
        out().print(rows)


def _print_checkpoints(checkpoints: list[CheckpointView]) -> None:
    if not checkpoints:
        return
    rows = table("step", "file", "size", "sha256", "kept as", right=("step", "size"))
    for checkpoint in checkpoints:
        why = escape(", ".join(checkpoint.kept))
        for file in checkpoint.files:
            rows.add_row(str(checkpoint.step), escape(file.name), size(file.size), file.sha256[:12], why)
    out().print(rows)


def _print_saved(job: JobDetail, checkpoints: list[CheckpointView]) -> None:
    """Say where a job that trains nothing would go on; its checkpoints are of no other use."""
    if checkpoints:
        newest = max(checkpoints, key=lambda item: item.step)
        taken = size(sum(file.size for file in newest.files))
        out().print(f"  [dim]{'saved':<12}[/]up to {job.progress.unit} {newest.step:,} ({taken})")


def cancel_job(job_id: int, *, now: bool, as_json: bool) -> None:
    """Ask the server to stop a job."""
    with connect() as api:
        found = api.post(f"/jobs/{job_id}/cancel", json={"now": now})
    if as_json:
        print_json(found)
        return
    job = view(JobView, found)
    out().print(f"Job {job.id} is {state(job.state)}.")
