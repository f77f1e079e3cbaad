"""`cairn provenance|diff`: where a job came from, and what two jobs differ in."""

import json
from typing import Any

from rich.markup import escape

from app.cli.api import connect, view
from app.cli.screen import out, print_json, table
from app.cli.starting import words
from app.cli.transfer import print_plan
from app.wire.provenance import JobDiff, LeafDifference, Provenance
from app.wire.resolution import Origin

LONGEST = 40
"""Characters of a value that a table shows."""


def print_provenance(job_id: int, *, as_json: bool) -> None:
    """Print where a job's config and weights came from."""
    with connect() as api:
        found = api.get(f"/jobs/{job_id}/provenance.json")
    if as_json:
        print_json(found)
        return
    job = view(Provenance, found)
    out().print(f"[bold]{escape(job.name)}[/] [dim]job {job.job_id}, digest {job.digest[:12]}[/]")
    out().print(f"  [dim]{'start':<12}[/]{escape(words(job.start, job.base))}")
    out().print(f"  [dim]{'seed':<12}[/]{job.seed}")
    for name, digest in job.datasets.items():
        out().print(f"  [dim]{'data':<12}[/]{escape(name)} [dim]{digest[:12]}[/]")
    if job.plan is not None:
        print_plan(job.plan)
    print_inheritance(job.inheritance)


def print_inheritance(lines: list[str]) -> None:
    """Print where values came from, in words."""
    for line in lines:
        out().print(f"  {escape(line)}", soft_wrap=True)


def print_diff(left: int, right: int, *, as_json: bool) -> None:
    """Print what two jobs' configs differ in."""
    with connect() as api:
        found = api.get(f"/jobs/{left}/diff/{right}")
    if as_json:
        print_json(found)
        return
    diff = view(JobDiff, found)
    if diff.same_training:
        out().print(
            f"Jobs {left} and {right} train the same thing: equal configs, data, seeds and weights to start from."
        )
    print_leaves(f"{len(diff.values)} different values", diff.values, left, right)
    print_leaves(f"{len(diff.origins)} equal values of different origin", diff.origins, left, right)
    if not diff.same_training and not diff.values:
        out().print("Their configs have equal values: data, seeds, engine or the weights they start from differ.")


def print_leaves(title: str, differences: list[LeafDifference], left: int, right: int) -> None:
    """Print values that two jobs' configs differ in, if there are any."""
    if not differences:
        return
    out().print(f"[bold]{title}[/]")
    rows = table("key", f"job {left}", "", f"job {right}", "")
    for one in differences:
        rows.add_row(escape(one.pointer), *_cells(one.left, one.left_origin), *_cells(one.right, one.right_origin))
    out().print(rows)


def _cells(value: Any, origin: Origin | None) -> tuple[str, str]:
    if origin is None:
        return "[dim]–[/]", ""
    return escape(clip(value)), f"[dim]{origin.origin}[/]"


def clip(value: Any) -> str:
    """Return a value as a table shows it."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
