"""`cairn compare|reproduce`: two runs side by side, once or while one of them repeats the other."""

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import typer
from rich.live import Live
from rich.markup import escape

from app.cli import watching
from app.cli.api import Api, connect, view
from app.cli.comparing import clip, print_leaves
from app.cli.errors import print_pairs
from app.cli.failures import FAILED, UNDECIDED, UNREACHABLE, Failure
from app.cli.screen import err, out, print_json, print_json_line, state, table
from app.wire.comparison import Comparison, Difference, EnvironmentDifference, MetricDifference
from app.wire.jobs import JobDetail
from app.wire.measuring import MeasuredPair
from app.wire.states import FINAL_STATES, Verdict

COMPARE_S = 2.0
"""Seconds between comparisons of a run that goes on: each looks at all steps so far."""
MOST = 20
"""Rows of a table; `--json` has them all."""

STYLES: dict[Verdict, str] = {
    "identical": "green",
    "identical-so-far": "green",
    "diverged": "red",
    "not-comparable": "yellow",
}
EXIT_CODES: dict[Verdict, int] = {
    "identical": 0,
    "diverged": FAILED,
    "identical-so-far": UNDECIDED,
    "not-comparable": UNDECIDED,
}


def compare(left: int, right: int, *, as_json: bool) -> None:
    """Print how two jobs compare; the exit code is the verdict's."""
    with connect() as api:
        found = api.get(f"/jobs/{left}/compare/{right}")
        tests = api.get(f"/jobs/{left}/tests/{right}")
    comparison = view(Comparison, found)
    if as_json:
        print_json({**found, "tests": tests})
    else:
        print_comparison(comparison)
        print_pairs([view(MeasuredPair, item) for item in tests], left, right)
    raise typer.Exit(EXIT_CODES[comparison.verdict])


def reproduce(job_id: int, body: dict[str, Any], *, follow: bool, as_json: bool) -> None:
    """Run a job again; with `follow`, compare until it ends and exit with the code of the verdict."""
    with connect() as api:
        found = api.post(f"/jobs/{job_id}/reproduce", json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
        job = view(JobDetail, found)
        if follow:
            comparison = _follow_to_end(api, job_id, job.id, as_json=as_json)
            raise typer.Exit(EXIT_CODES[comparison.verdict])
    if as_json:
        print_json(found)
        return
    out().print(f"Job [bold]{job.id}[/] runs job {job_id} again: {escape(job.name)} is {state(job.state)}.")
    out().print(f"`cairn compare {job_id} {job.id}` tells how far they are identical.")


def _follow_to_end(api: Api, original: int, job_id: int, *, as_json: bool) -> Comparison:
    """Show how far a reproduction is identical until it ends. Ctrl-C ends the watching only, and says so."""
    show = _as_json if as_json else _live if out().is_terminal else _plain
    try:
        comparison = show(_Poll(api, original, job_id))
    except KeyboardInterrupt:
        err().print(f"Job {job_id} goes on. `cairn compare {original} {job_id}` tells how far they are identical.")
        raise
    if not as_json:
        print_comparison(comparison)
    return comparison


@dataclass
class _Poll:
    """The comparison of a job with its reproduction, asked for again and again."""

    api: Api
    original: int
    job_id: int
    etag: str = ""
    last: Comparison | None = None
    asked_at: float = 0.0

    def follow(self, picture: watching.Picture) -> Iterator[tuple[JobDetail, Comparison]]:
        """Yield the reproduction and how it compares, until it ends; the last time with the final comparison."""
        for job in watching.follow(self.api, self.job_id, picture):
            is_over = job.state in FINAL_STATES
            if is_over or self.last is None or time.monotonic() - self.asked_at > COMPARE_S:
                self._ask(patient=not is_over)
            assert self.last is not None, "the first answer came, or a failure was raised"
            yield job, self.last

    def _ask(self, *, patient: bool) -> None:
        """Ask for the comparison. A server that is away for a moment is left to the loop that follows the job."""
        self.asked_at = time.monotonic()
        headers = {"If-None-Match": self.etag} if self.etag else {}
        try:
            answer = self.api.request("GET", f"/jobs/{self.original}/compare/{self.job_id}", headers=headers)
        except Failure as failure:
            if not patient or self.last is None or failure.exit_code != UNREACHABLE:
                raise
            return
        if answer.status_code != httpx.codes.NOT_MODIFIED:
            self.etag = answer.headers.get("ETag", "")
            self.last = view(Comparison, answer.json())


def _as_json(poll: _Poll) -> Comparison:
    shown = None
    for _, comparison in poll.follow(watching.Picture()):
        if comparison is not shown:
            print_json_line(comparison.model_dump(mode="json"))
            shown = comparison
    return comparison


def _plain(poll: _Poll) -> Comparison:
    shown, printed_at = ("", ""), 0.0
    for job, comparison in poll.follow(watching.Picture()):
        standing = job.state, comparison.verdict
        told = comparison.steps and time.monotonic() - printed_at > watching.PLAIN_S
        if (standing != shown or told) and job.state not in FINAL_STATES:
            out().print(f"job {job.id}  {job.state}  {escape(comparison.summary)}", soft_wrap=True)
            shown, printed_at = standing, time.monotonic()
    return comparison


def _live(poll: _Poll) -> Comparison:
    picture = watching.Picture()
    with Live(console=out(), refresh_per_second=4, transient=False) as live:
        for job, comparison in poll.follow(picture):
            picture.footer = _verdict(comparison)
            live.update(watching.render(job, picture))
    return comparison


def _verdict(comparison: Comparison) -> str:
    return f"[{STYLES[comparison.verdict]}]{escape(comparison.summary)}[/]"


def print_comparison(comparison: Comparison) -> None:
    """Print a comparison: the verdict, where the runs part, and what differs between them."""
    left, right = comparison.left.job, comparison.right.job
    out().print(f"Jobs {left} and {right}: {_verdict(comparison)}", soft_wrap=True)
    _print_first_differences(comparison.first_differences, left, right)
    for pair in comparison.beginning:
        equal = "equal" if pair.left == pair.right else "[red]different[/]"
        out().print(f"  [dim]{pair.stage:<12}[/]{equal} [dim]{pair.left[:12]} {pair.right[:12]}[/]")
    if first := comparison.generators:
        where = f"generators at step {first.step:,}: {escape(first.generator or '')}"
        out().print(f"  [dim]{where}[/] [red]different[/] [dim]{first.left[:12]} {first.right[:12]}[/]")
    for job, keys in ((left, comparison.only_left), (right, comparison.only_right)):
        if keys:
            out().print(f"  [dim]only job {job} has[/] {escape(', '.join(keys))}", soft_wrap=True)
    for one in comparison.uneven:
        words = f"{one.left} values only in job {left}, {one.right} only in job {right}"
        out().print(f"  [dim]{escape(one.key)}[/] {words}", soft_wrap=True)
    _print_table("Different in what decides the training", comparison.spec, f"job {left}", f"job {right}")
    print_leaves("Different in the configuration", comparison.config, left, right)
    for environment in (comparison.environment, *comparison.moves):
        _print_environment(environment)


def _print_first_differences(differences: Sequence[MetricDifference], left: int, right: int) -> None:
    if not differences:
        return
    rows = table("metric", "first at step", f"job {left}", f"job {right}", right=("first at step",))
    for one in differences[:MOST]:
        rows.add_row(escape(one.key), f"{one.step:,}", one.left.decimal, one.right.decimal)
        rows.add_row("", "", f"[dim]{one.left.hex}[/]", f"[dim]{one.right.hex}[/]")
    out().print(rows)
    _print_rest(len(differences))


def _print_environment(environment: EnvironmentDifference | None) -> None:
    if environment is None:
        return
    sides = [
        f"job {environment.left_job}, attempt {environment.left_attempt}",
        f"job {environment.right_job}, attempt {environment.right_attempt}",
    ]
    if not environment.differences:
        out().print(f"  [dim]environment[/] equal for {sides[0]} and {sides[1]}")
        return
    _print_table("Different environments", environment.differences, *sides)


def _print_table(title: str, differences: Sequence[Difference], left: str, right: str) -> None:
    if not differences:
        return
    out().print(f"[bold]{title}[/]")
    rows = table("key", left, right)
    for one in differences[:MOST]:
        rows.add_row(escape(one.pointer), _cell(one.left, one.only != "right"), _cell(one.right, one.only != "left"))
    out().print(rows)
    _print_rest(len(differences))


def _cell(value: Any, is_there: bool) -> str:
    return escape(clip(value)) if is_there else "[dim]–[/]"


def _print_rest(count: int) -> None:
    if count > MOST:
        out().print(f"  [dim]and {count - MOST} more; --json shows all[/]")
