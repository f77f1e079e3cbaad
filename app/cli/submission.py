"""`cairn submit` and `cairn check`: an input.json goes to the server, and what is wrong with it comes back."""

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.markup import escape

from app.cli import watching
from app.cli.api import UPLOAD_TIMEOUT, Api, connect, view
from app.cli.attachments import attached
from app.cli.document import Document, apply_settings, read
from app.cli.failures import Failure, Fault
from app.cli.screen import out, print_fault, print_json, table
from app.wire.jobs import JobDetail, Resolution
from app.wire.problems import Notice


def submit(
    file: str,
    fields: dict[str, Any],
    *,
    settings: Sequence[str],
    data: Sequence[str],
    key: str | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Submit a job, show it, and watch it when asked to."""
    document = _prepared(file, settings)
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    with connect() as api:
        with _about(document):
            found = _send(api, {"config": document.value, **fields}, data, headers)
        job = view(JobDetail, found)
        _report(job, found, document, as_json=as_json and not follow)
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


def _prepared(file: str, settings: Sequence[str]) -> Document:
    document = read(file)
    apply_settings(document, settings)
    return document


def _send(api: Api, body: dict[str, Any], data: Sequence[str], headers: dict[str, str]) -> Any:
    if not data:
        return api.post("/jobs", json=body, headers=headers)
    with attached(data) as files:
        fields = {"submission": json.dumps(body)}
        return api.post("/jobs", data=fields, files=files, headers=headers, timeout=UPLOAD_TIMEOUT)


def _report(job: JobDetail, found: Any, document: Document, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    _print_warnings(job.warnings, document)
    console = out()
    console.print(
        f"Job [bold]{job.id}[/] {escape(job.name)} is {job.state}: {job.progress.total_steps} steps, seed {job.seed}."
    )
    console.print(f"  [dim]watch it:[/] cairn watch {job.id}")


def check(file: str, fields: dict[str, Any], *, settings: Sequence[str], as_json: bool) -> None:
    """Show what a config resolves to; raise Failure with every problem when it would not run."""
    document = _prepared(file, settings)
    with connect() as api, _about(document):
        found = api.post("/configs/resolve", json={"config": document.value, **fields})
    if as_json:
        print_json(found)
        return
    resolution = view(Resolution, found)
    _print_warnings(resolution.warnings, document)
    _print_origins(resolution)


def _print_warnings(warnings: Sequence[Notice], document: Document) -> None:
    for notice in warnings:
        fault = Fault(notice.code, notice.message, notice.pointer, notice.hint)
        print_fault(fault, document, style="yellow", word="warning")


def _print_origins(resolution: Resolution) -> None:
    rows = table("key", "value", "origin", "note")
    for pointer, origin in resolution.origins.items():
        if origin.origin == "default":
            continue
        value = json.dumps(value_at(resolution.config, pointer), ensure_ascii=False)
        note = f"ignored: {origin.ignored}" if origin.ignored else origin.note or ""
        rows.add_row(escape(pointer), escape(_clip(value)), origin.origin, escape(note))
    out().print(rows)
    defaults = sum(origin.origin == "default" for origin in resolution.origins.values())
    out().print(f"and {defaults} defaults (--json shows them). {resolution.total_steps} steps, seed {resolution.seed}.")
    out().print(f"[green]This would run.[/] [dim]digest {resolution.digest[:12]}[/]")


def _clip(text: str, limit: int = 48) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def value_at(config: Any, pointer: str) -> Any:
    """Return the value that a JSON pointer (RFC 6901) names."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        config = config[int(key)] if isinstance(config, list) else config[key]
    return config
