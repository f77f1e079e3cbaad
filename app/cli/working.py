"""What the commands that do something with models have in common: submit a job, wait for it, fetch what it made."""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from rich.markup import escape

from app.cli import watching
from app.cli.api import Api, connect, view
from app.cli.downloading import Remote, Target, fetch, fetch_all, job_files
from app.cli.screen import counted, err, out, print_json
from app.wire.jobs import JobDetail
from app.wire.states import FINAL_STATES


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    kind: str
    config: dict[str, Any]
    name: str | None
    target: Target | None
    """Where files go; None: they stay on the server."""
    options: dict[str, Any] = field(default_factory=dict)
    """What the submission says beside that: engine, on_existing."""
    wants: Callable[[Remote], bool] = lambda _: True
    """Which of its files are fetched."""


def work(wanted: Wanted, show: Callable[[Api, JobDetail], None], *, detach: bool, as_json: bool) -> None:
    """Submit a job; unless told to leave, watch it to its end, `show` what came out and fetch it. Raises Failure."""
    body = {"kind": wanted.kind, "config": wanted.config, **wanted.options}
    body |= {"name": wanted.name} if wanted.name else {}
    with connect() as api:
        found = api.post("/jobs", json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
        job = view(JobDetail, found)
        if not as_json:
            _print_notices(job)
        if detach:
            _print_submitted(job, found, as_json=as_json)
            return
        if job.state not in FINAL_STATES:
            job = _wait(api, job.id, as_json=as_json)
        watching.finish(job, as_json=as_json)
        show(api, job)
        if wanted.target is not None:
            _download(api, job.id, wanted, wanted.target, as_json=as_json)


def _print_notices(job: JobDetail) -> None:
    for notice in job.warnings:
        err().print(f"[yellow bold]warning[/] {escape(notice.message)}")
    if job.weight_check is not None and job.weight_check.decision == "reuse":
        out().print(escape(job.weight_check.summary))


def _print_submitted(job: JobDetail, found: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    work = [counted(len(job.models), "model")]
    work += [counted(job.progress.total_steps, job.progress.unit)] if job.progress.total_steps else []
    words = ", ".join(dict.fromkeys(work))
    out().print(f"Job [bold]{job.id}[/] {escape(job.name)} is {job.state}: {words}.")
    out().print(f"  [dim]watch it:[/] cairn watch {job.id}")


def _wait(api: Api, job_id: int, *, as_json: bool) -> JobDetail:
    """Return the job as it ended; Ctrl-C ends the watching only, and says so."""
    try:
        return watching.watch_job(api, job_id) if not as_json else _last(watching.follow(api, job_id))
    except KeyboardInterrupt:
        err().print(f"Job {job_id} goes on. `cairn watch {job_id}` shows it again, `cairn cancel {job_id}` stops it.")
        raise


def _last(jobs: Iterable[JobDetail]) -> JobDetail:
    *_, job = jobs
    assert job.state in FINAL_STATES, "it is followed to its end"
    return job


def _download(api: Api, job_id: int, wanted: Wanted, target: Target, *, as_json: bool) -> None:
    remotes = [remote for remote in job_files(api, job_id) if wanted.wants(remote)]
    if not as_json:
        fetch_all(api, remotes, target, as_json=False)
        return
    for remote in remotes:
        fetch(api, remote, target.path(remote.name, single=len(remotes) == 1), force=target.force)
