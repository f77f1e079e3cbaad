"""`cairn submit` and `cairn check`: an input.json goes to the server, and what is wrong with it comes back."""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.markup import escape

from app.cli import watching
from app.cli.api import UPLOAD_TIMEOUT, Api, connect, view
from app.cli.attachments import attached
from app.cli.comparing import clip, print_inheritance
from app.cli.document import apply_settings, empty, read
from app.cli.failures import FAILED, Failure, Fault, usage
from app.cli.measuring import words as words_of_tests
from app.cli.places import Document
from app.cli.screen import err, out, print_fault, print_json, size, table
from app.cli.starting import Starting, words
from app.cli.transfer import kept, print_plan
from app.cli.uploading import finish
from app.cli.weights import attended
from app.wire.groups import GroupDetail
from app.wire.jobs import JobDetail
from app.wire.problems import Notice
from app.wire.resolution import Check, CostHints, Origin

PAUSE_S = 1.0
"""Between two questions whether there is a plan; the server itself waits for it, too, where that makes sense."""


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    file: str | None
    """None: nothing but the base and `settings` says what to train."""
    fields: dict[str, Any]
    starting: Starting
    settings: Sequence[str]

    def document(self) -> Document:
        """Return the config with what options put over and beside it. Raises Failure."""
        if self.file is None and "base" not in self.starting.start:
            raise usage("Which input.json?", hint="Give FILE, or --base to take the configuration of a base model.")
        document = empty() if self.file is None else read(self.file)
        apply_settings(document, self.settings)
        document.overrides |= self.starting.options | self._options()
        return document

    def _options(self) -> dict[str, str]:
        """Return the text of the options that set one value beside the config, by JSON pointer."""
        plain = {name: value for name, value in self.fields.items() if not isinstance(value, dict | list)}
        options = {f"/{name}": f"--{name.replace('_', '-')} {value}" for name, value in plain.items()}
        return options | {f"/resources/{n}": f"--{n} {v}" for n, v in self.fields.get("resources", {}).items()}

    def submission(self, document: Document) -> dict[str, Any]:
        """Return what is sent."""
        start = {"start": self.starting.start} if self.starting.start else {}
        return {"config": document.value, **self.fields, **start}


def submit(wanted: Wanted, *, data: Sequence[str], key: str | None, follow: bool, as_json: bool) -> None:
    """Submit a job, show it, and watch it when asked to."""
    if follow and wanted.fields.get("replicas", 1) > 1:
        raise usage("--follow watches one job.", hint="`cairn group show GROUP` tells how the replicas are doing.")
    document = wanted.document()
    send(document, wanted.submission(document), data=data, key=key, follow=follow, as_json=as_json)


def send(
    document: Document,
    body: dict[str, Any],
    *,
    data: Sequence[str] = (),
    key: str | None = None,
    follow: bool,
    as_json: bool,
) -> None:
    """Submit `body`, whose config is the document's, show the job, and watch it when asked to."""
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    with connect() as api:
        with _about(document):
            found = _send(api, body, data, headers)
        job = view(JobDetail, found)
        if not as_json:
            group = view(GroupDetail, api.get(f"/groups/{job.group}")) if job.replica else None
            _report(job, group, document)
        elif not follow:
            print_json(found)
        if follow:
            watching.watch_to_end(api, job.id, as_json=as_json)


@contextmanager
def _about(document: Document) -> Iterator[None]:
    """Let a refusal show the lines of the document it is about."""
    try:
        yield
    except Failure as failure:
        failure.document = document
        raise


def _send(api: Api, body: dict[str, Any], data: Sequence[str], headers: dict[str, str]) -> Any:
    if not data:
        return api.post("/jobs", json=body, headers=headers)
    with attached(api, data) as found:
        if not found.files:
            body = {**body, "uploads": found.uploads}
            return finish(lambda: api.post("/jobs", json=body, headers=headers, timeout=UPLOAD_TIMEOUT))
        fields = {"submission": json.dumps(body), "uploads": json.dumps(found.uploads)}
        return api.post("/jobs", data=fields, files=found.files, headers=headers, timeout=UPLOAD_TIMEOUT)


def _report(job: JobDetail, group: GroupDetail | None, document: Document) -> None:
    print_warnings(job.warnings, document)
    console = out()
    console.print(
        f"Job [bold]{job.id}[/] {escape(job.name)} is {job.state}: {_amount(job.progress.total_steps)}, seed {job.seed}."
    )
    if job.weight_check and job.weight_check.twins:
        console.print(f"  {escape(job.weight_check.summary)}", soft_wrap=True)
    if job.base:
        share = f", {kept(job.plan)}" if job.plan else ""
        console.print(f"  {escape(words(job.start, job.base))}{share}", soft_wrap=True)
    if job.test_on:
        console.print(f"  {words_of_tests(job)}", soft_wrap=True)
    if job.unserved:
        console.print(f"  [yellow]No worker can take it now:[/] {escape(job.unserved)}.", soft_wrap=True)
    if job.state == "checking":
        console.print("  It is queued once a worker has listed its model's tensors and the plan is made.")
    if group is not None:
        _report_group(group)
        return
    console.print(f"  [dim]watch it:[/] cairn watch {job.id}")


def _report_group(group: GroupDetail) -> None:
    jobs = ", ".join(str(job.id) for job in group.jobs)
    out().print(f"Group [bold]{group.id}[/] has {group.size} replicas, root seed {group.seed}: jobs {jobs}.")
    out().print(f"  [dim]look at it:[/] cairn group show {group.id}")


def check(wanted: Wanted, *, explain: bool, as_json: bool) -> None:
    """Show what a config resolves to and what it takes from its base.

    Raises Failure with every problem when it would not run, or when nobody can tell yet.
    """
    document = wanted.document()
    with connect() as api, _about(document):
        found = _checked(api, wanted.submission(document))
    result = view(Check, found)
    if as_json:
        print_json(found)
    else:
        _print_check(result, document, explain=explain)
    if result.plan_pending:
        raise Failure(
            f"There is no transfer plan yet: {result.plan_pending}.",
            code="plan-pending",
            hint="Submitted now, it is kept as `checking` until there is one, and then queued or failed with the reasons.",
            exit_code=FAILED,
        )
    if not as_json:
        _print_verdict(result)


def _print_verdict(check: Check) -> None:
    weights = check.weight_check
    digest = f"[dim]digest {check.digest[:12]}[/]"
    if weights is None or weights.decision != "refused":
        out().print(f"[green]This would run.[/] {digest}")
    else:
        out().print(f"[yellow]This would be refused[/] without another `--on-existing`. {digest}")
    if weights is not None and weights.twins:
        out().print(f"  {escape(weights.summary)}", soft_wrap=True)


def _checked(api: Api, body: dict[str, Any]) -> Any:
    """Return the server's check, with the plan as soon as there is one; without, when no worker is there to wait for."""
    found = api.post("/configs/resolve", json=body)
    if found.get("plan_pending") and attended(api, found["engine"]):
        err().print("[dim]Waiting for a worker to list the model's tensors …[/]")
        # A seed that was drawn is kept: the answer is to one and the same question.
        body = {**body, "seed": found["seed"] if found.get("group_seed") is None else found["group_seed"]}
        while found.get("plan_pending") and attended(api, found["engine"]):
            time.sleep(PAUSE_S)
            found = api.post("/configs/resolve", json=body)
    return found


def _print_check(check: Check, document: Document, *, explain: bool) -> None:
    print_warnings(check.warnings, document)
    _print_origins(check)
    if check.plan is not None:
        print_plan(check.plan)
    elif check.base:
        out().print(
            f"[bold]{escape(words(check.start, check.base))}[/] [dim]sha256 {(check.base_sha256 or '')[:12]}[/]"
        )
    if explain:
        print_inheritance(check.inheritance)
    roots = (
        f": {len(check.replica_seeds)} replicas of root {check.group_seed}, this is the first"
        if check.replica_seeds
        else ""
    )
    out().print(f"{_in_words(check.hints)}, seed {check.seed}{roots}.", soft_wrap=True)


def _amount(steps: int) -> str:
    """Return how many steps there are; with epochs that shows when a worker has read the data."""
    return f"{steps:,} steps" if steps else "as many steps as the data make"


def _in_words(hints: CostHints) -> str:
    what = f"{hints.entries:,} documents" if hints.entries else f"{hints.frames:,} frames"
    parts = [f"{_amount(hints.steps)} on {what}"]
    parts += [f"{hints.parameters:,} parameters"] if hints.parameters is not None else []
    parts += [f"checkpoints of about {size(hints.checkpoint_bytes)}"] if hints.checkpoint_bytes is not None else []
    return ", ".join(parts)


def print_warnings(warnings: Sequence[Notice], document: Document | None = None) -> None:
    """Print what a job's owner should know of its config, with the lines of the document."""
    for notice in warnings:
        fault = Fault(notice.code, notice.message, notice.pointer, notice.hint)
        print_fault(fault, document, style="yellow", word="warning")


def _print_origins(check: Check) -> None:
    rows = table("key", "value", "origin", "instead of", "note")
    for pointer, origin in check.origins.items():
        if origin.origin == "default":
            continue
        note = f"ignored: {origin.ignored}" if origin.ignored else origin.note or ""
        value = clip(value_at(check.config, pointer))
        rows.add_row(escape(pointer), escape(value), origin.origin, escape(_lost(origin)), escape(note))
    out().print(rows)
    defaults = sum(origin.origin == "default" for origin in check.origins.values())
    out().print(f"and {defaults} defaults (--json shows them).")


def _lost(origin: Origin) -> str:
    return ", ".join(f"{losing.origin} {clip(losing.value)}" for losing in origin.losing)


def value_at(config: Any, pointer: str) -> Any:
    """Return the value that a JSON pointer (RFC 6901) names."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        config = config[int(key)] if isinstance(config, list) else config[key]
    return config
