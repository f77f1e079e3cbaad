"""`cairn model-devi`: submits the job, watches it, and sums up what came out, system by system."""

import math
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.markup import escape

from app.cli import watching
from app.cli.api import Api, connect, view
from app.cli.downloading import Target, fetch, fetch_all, job_files
from app.cli.failures import usage
from app.cli.screen import err, out, print_json, table
from app.wire.jobs import FINAL_STATES, JobDetail

FILE = "model_devi.out"
MAX_F, AVG_F = 4, 6
"""Columns of the file: step, then max, min and mean of the virial's and of the forces' deviation, and the energy's."""


@dataclass(frozen=True)
class Levels:
    """DP-GEN's trust levels of max_devi_f, in eV/Å."""

    lo: float
    hi: float


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    config: dict[str, Any]
    name: str | None
    levels: Levels | None
    target: Target | None
    """Where the file goes; None: it stays on the server."""


def levels(lo: float | None, hi: float | None) -> Levels | None:
    """Return the trust levels, if both are given. Raises Failure when they make no sense."""
    if lo is None and hi is None:
        return None
    if lo is None or hi is None or lo >= hi:
        raise usage("--lo and --hi go together, --lo the smaller one: candidates lie between them.")
    return Levels(lo, hi)


@dataclass
class Summary:
    """The deviations of forces in one system, in eV/Å."""

    system: str
    levels: Levels | None
    frames: int = 0
    sum_max_f: float = 0.0
    sum_avg_f: float = 0.0
    largest: float = -math.inf
    at_step: int = 0
    """Where the largest is, as the file counts frames."""
    counts: dict[str, int] = field(default_factory=lambda: {"accurate": 0, "candidate": 0, "failed": 0})
    """Frames by DP-GEN's classes: below lo, from lo to below hi, from hi on."""

    def add(self, columns: list[float]) -> None:
        """Count one frame."""
        value = columns[MAX_F]
        self.frames += 1
        self.sum_max_f += value
        self.sum_avg_f += columns[AVG_F]
        if not (value <= self.largest or math.isnan(self.largest)):  # NaN counts as the largest
            self.largest, self.at_step = value, int(columns[0])
        if self.levels is not None:
            name = "accurate" if value < self.levels.lo else "candidate" if value < self.levels.hi else "failed"
            self.counts[name] += 1

    def as_json(self) -> dict[str, Any]:
        """Return what a program reads."""
        numbers = {
            "mean_max_f": self.sum_max_f / self.frames,
            "mean_avg_f": self.sum_avg_f / self.frames,
            "largest_max_f": self.largest,
        }
        finite = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
        counts = {"levels": self.counts} if self.levels is not None else {}
        return {"system": self.system, "frames": self.frames, **finite, "at_step": self.at_step, **counts}


def deviate(wanted: Wanted, *, detach: bool, as_json: bool) -> None:
    """Submit a deviation; unless told to leave, watch it to its end and print what came out. Raises Failure."""
    body = {"kind": "model-devi", "config": wanted.config} | ({"name": wanted.name} if wanted.name else {})
    with connect() as api:
        found = api.post("/jobs", json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
        job = view(JobDetail, found)
        for notice in [] if as_json else job.warnings:
            err().print(f"[yellow bold]warning[/] {escape(notice.message)}")
        if detach:
            _print_submitted(job, found, as_json=as_json)
            return
        job = _wait(api, job.id, as_json=as_json)
        summaries = summarise(_lines(api, job.id), wanted.levels)
        if as_json:
            print_json({"job": job.id, "systems": [each.as_json() for each in summaries]})
        else:
            _print_table(summaries, wanted.levels)
        if wanted.target is not None:
            _download(api, job.id, wanted.target, as_json=as_json)


def _print_submitted(job: JobDetail, found: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    frames = job.progress.total_steps
    out().print(f"Job [bold]{job.id}[/] {escape(job.name)} is {job.state}: {len(job.models)} models, {frames} frames.")
    out().print(f"  [dim]watch it:[/] cairn watch {job.id}")


def _wait(api: Api, job_id: int, *, as_json: bool) -> JobDetail:
    """Return the job once it has completed; Ctrl-C ends the watching only, and says so. Raises Failure if it did not."""
    try:
        job = watching.watch_job(api, job_id) if not as_json else _last(watching.follow(api, job_id))
    except KeyboardInterrupt:
        err().print(f"Job {job_id} goes on. `cairn watch {job_id}` shows it again, `cairn cancel {job_id}` stops it.")
        raise
    watching.finish(job, as_json=as_json)
    return job


def _last(jobs: Iterable[JobDetail]) -> JobDetail:
    *_, job = jobs
    assert job.state in FINAL_STATES, "it is followed to its end"
    return job


def _lines(api: Api, job_id: int) -> Iterator[str]:
    with api.stream(f"/jobs/{job_id}/files/{FILE}") as response:
        yield from response.iter_lines()


def summarise(lines: Iterable[str], levels: Levels | None) -> list[Summary]:
    """Return the sums of a `model_devi.out`, system by system: each begins with its name and the names of the columns."""
    summaries: list[Summary] = []
    for line in lines:
        if not line.startswith("#"):
            summaries[-1].add([float(word) for word in line.split()[: AVG_F + 1]])
        elif "max_devi_v" not in line:
            summaries.append(Summary(line.removeprefix("# "), levels))
    return summaries


def _print_table(summaries: list[Summary], levels: Levels | None) -> None:
    numbers = ["frames", "mean max_f", "largest max_f", "at step", "mean avg_f"]
    classes = [f"< {levels.lo:g}", "candidates", f"≥ {levels.hi:g}"] if levels else []
    rows = table("system", *numbers, *classes, right=(*numbers, *classes))
    for one in summaries:
        values = [one.sum_max_f / one.frames, one.largest, one.sum_avg_f / one.frames]
        counts = [str(count) for count in one.counts.values()] if levels else []
        mean_max, largest, mean_avg = (f"{value:.4g}" for value in values)
        rows.add_row(escape(one.system), str(one.frames), mean_max, largest, str(one.at_step), mean_avg, *counts)
    out().print(rows)
    out().print("[dim]Deviations of forces in eV/Å.[/]")


def _download(api: Api, job_id: int, target: Target, *, as_json: bool) -> None:
    remotes = [remote for remote in job_files(api, job_id) if remote.name == FILE]
    if not as_json:
        fetch_all(api, remotes, target, as_json=False)
        return
    for remote in remotes:
        fetch(api, remote, target.path(remote.name, single=True), force=target.force)
