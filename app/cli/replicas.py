"""`cairn group`: replicas and their statistics in words."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from app.cli.api import connect, view
from app.cli.downloading import Remote, Target, fetch_all
from app.cli.looking import pages
from app.cli.screen import ago, interval, out, print_json, quantity, spread, standing, state, table
from app.wire.groups import GroupActed, GroupDetail, GroupPage, Summary
from app.wire.jobs import JobView
from app.wire.states import JobState

DONE = {"cancel": "cancelled, or stopping for it", "pause": "paused, or stopping for it", "resume": "resumed"}


def list_groups(*, limit: int, as_json: bool) -> None:
    """Print groups, newest first."""
    with connect() as api:
        found = pages(api, "/groups", limit)
    if as_json:
        print_json(found)
        return
    groups = view(GroupPage, {"items": found}).items
    if not groups:
        out().print("No groups. `cairn submit input.json --replicas 4` makes one.")
        return
    rows = table("group", "name", "replicas", "states", "slowest", "seed", "created", right=("group", "replicas"))
    for group in groups:
        share = standing(group.step, group.total_steps)
        cells = [_states(group.states), share, str(group.seed), ago(group.created_at)]
        rows.add_row(str(group.id), escape(group.name), str(group.size), *cells)
    out().print(rows)


def _states(counts: Mapping[JobState, int]) -> str:
    return ", ".join(f"{count} {state(name)}" for name, count in counts.items())


def show(group_id: int, *, as_json: bool) -> None:
    """Print a group's jobs and the statistics of their newest values."""
    with connect() as api:
        found = api.get(f"/groups/{group_id}")
    if as_json:
        print_json(found)
        return
    group = view(GroupDetail, found)
    head = f"[bold]{escape(group.name)}[/] [dim]group {group.id}[/]"
    out().print(f"{head}  {group.size} replicas, seed {group.seed}: {_states(group.states)}")
    rows = table("replica", "job", "state", "progress", "seed", right=("replica", "job", "progress", "seed"))
    for job in group.jobs:
        rows.add_row(*_row(job))
    out().print(rows)
    if group.summary:
        _print_summary(group)
    for job in group.tasks:
        out().print(f"{job.kind}: job {job.id}, {escape(job.name)}, is {state(job.state)}.")


def _row(job: JobView) -> list[str]:
    share = standing(job.progress.step, job.progress.total_steps)
    return [str(job.replica), str(job.id), state(job.state), share, str(job.seed)]


def _print_summary(group: GroupDetail) -> None:
    rows = table("metric", "n", "mean ± std", "95 % interval", "outliers", right=("n",))
    for one in group.summary:
        mean = "–" if one.mean is None else spread(one.mean, one.std, one.unit)
        band = "–" if one.low is None or one.high is None else interval(one.low, one.high, one.unit)
        rows.add_row(escape(one.key), str(one.count), mean, band, _outliers(one))
    out().print(rows)


def _outliers(one: Summary) -> str:
    words = (f"job {job}: {quantity(one.values.get(job), one.unit)}" for job in one.outliers)
    return "\n".join(f"[red]{text}[/]" for text in words)


def act(group_id: int, verb: str, body: Mapping[str, Any], *, as_json: bool) -> None:
    """Do something to all replicas, and say to which it was done."""
    with connect() as api:
        found = api.post(f"/groups/{group_id}/{verb}", json=body)
    if as_json:
        print_json(found)
        return
    done = view(GroupActed, found)
    jobs = ", ".join(str(job) for job in done.changed)
    out().print(f"{len(done.changed)} of group {group_id} {DONE[verb]}" + (f": jobs {jobs}." if jobs else "."))
    for words in done.unchanged.values():
        out().print(f"  [dim]unchanged:[/] {escape(words)}", soft_wrap=True)


def download(group_id: int, step: int | None, target: Target, *, as_json: bool) -> None:
    """Fetch the ensemble and say where it is."""
    params = () if step is None else (("step", str(step)),)
    remote = Remote(f"/groups/{group_id}/ensemble", f"group-{group_id}-ensemble.zip", params)
    with connect() as api:
        fetch_all(api, [remote], target, as_json=as_json)
