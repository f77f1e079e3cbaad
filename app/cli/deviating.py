"""`cairn model-devi`: submits the job, watches it, and sums up what came out, system by system."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.markup import escape

from app.cli.api import Api
from app.cli.failures import usage
from app.cli.screen import out, print_json, table
from app.cli.working import Wanted, work
from app.wire.jobs import JobDetail

FILE = "model_devi.out"
MAX_F, AVG_F = 4, 6
"""Columns of the file: step, then max, min and mean of the virial's and of the forces' deviation, and the energy's."""


@dataclass(frozen=True)
class Levels:
    """DP-GEN's trust levels of max_devi_f, in eV/Å."""

    lo: float
    hi: float


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


def deviate(wanted: Wanted, trust: Levels | None, *, detach: bool, as_json: bool) -> None:
    """Submit a deviation; unless told to leave, watch it to its end and print what came out. Raises Failure."""

    def show(api: Api, job: JobDetail) -> None:
        summaries = summarise(_lines(api, job.id), trust)
        if as_json:
            print_json({"job": job.id, "systems": [each.as_json() for each in summaries]})
        else:
            _print_table(summaries, trust)

    work(wanted, show, detach=detach, as_json=as_json)


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
