"""`cairn retention`: which checkpoints of a job are kept and why, what another policy would keep, and setting it."""

from typing import Any

from rich.markup import escape

from app.cli.api import connect, view
from app.cli.screen import ago, out, print_json, quantity, size, table
from app.wire.checkpoints import CheckpointView
from app.wire.retention import RetentionPlan
from app.wire.submission import CheckpointPolicy


def retain(job_id: int, changes: dict[str, Any], *, dry_run: bool, as_json: bool) -> None:
    """Show what a job's policy keeps; with `changes` give it another one first, or with `dry_run` only say what that would do."""
    path = f"/jobs/{job_id}/retention"
    is_set = bool(changes) and not dry_run
    with connect() as api:
        if is_set:
            now = view(RetentionPlan, api.get(path)).policy.model_dump(exclude={"every_steps"})
            # An empty metric and a step of 0 say that nothing is kept for it.
            wanted = {name: value or None for name, value in {**now, **changes}.items()}
            found = api.request("PUT", path, json=wanted).json()
        else:
            found = api.get(path, **changes)
    if as_json:
        print_json(found)
    else:
        _print(view(RetentionPlan, found), job_id, is_set=is_set, is_asked=bool(changes))


def _print(plan: RetentionPlan, job_id: int, *, is_set: bool, is_asked: bool) -> None:
    verb = "would keep" if is_asked and not is_set else "keeps"
    out().print(f"Job {job_id} {verb} {in_words(plan.policy)}.", soft_wrap=True)
    rows = table("step", "size", "metric", "age", "why", right=("step", "size"))
    for one in plan.kept:
        rows.add_row(*_facts(one, plan.policy.keep_best), escape(", ".join(one.kept)))
    for one in plan.removed:
        rows.add_row(*_facts(one, plan.policy.keep_best), f"[yellow]{'removed' if is_set else 'would be removed'}[/]")
    if not rows.row_count:
        out().print("It has no checkpoint (yet).")
        return
    out().print(rows)
    if plan.removed:
        freed = "are freed" if is_set else "would be freed"
        out().print(f"{len(plan.removed)} of {rows.row_count} checkpoints, {size(plan.size)} {freed}.")


def _facts(one: CheckpointView, metric: str | None) -> tuple[str, str, str, str]:
    value = quantity(one.metrics[metric]) if metric in one.metrics and metric is not None else ""
    return f"{one.step:,}", size(sum(file.size for file in one.files)), value, ago(one.created_at)


def in_words(policy: CheckpointPolicy) -> str:
    """Return what a policy keeps, in words."""
    parts = [f"the newest {policy.keep_last} checkpoints"]
    parts += [f"the one with the lowest {escape(policy.keep_best)}"] if policy.keep_best else []
    parts += [f"those of every {policy.keep_every:,} steps"] if policy.keep_every else []
    return ", ".join(parts) + ", and whatever something else refers to"
