"""`cairn pause|resume|retry|extend|clone|priority`: jobs that are there are held, let go on, changed or submitted again."""

import json
import os
import shlex
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.markup import escape

from app.cli import watching
from app.cli.api import connect, view
from app.cli.document import apply_settings, parse, read
from app.cli.failures import Failure, usage
from app.cli.places import Document
from app.cli.screen import err, out, print_json, state
from app.cli.submission import print_warnings, send
from app.wire.jobs import JobDetail, JobView

AFTERWARDS = {
    "pause": "It pauses after its checkpoint; `cairn resume {0}` lets it go on then.",
    "resume": "`cairn watch {0}` follows it.",
    "retry": "`cairn watch {0}` follows it.",
}


def act(job_id: int, what: str, body: dict[str, Any], *, as_json: bool) -> None:
    """Ask the server to pause, resume or retry a job."""
    with connect() as api:
        found = api.post(f"/jobs/{job_id}/{what}", json=body)
    job = _shown(found, as_json=as_json)
    if job is None:
        return
    out().print(f"Job {job.id} is {state(job.state)}.")
    if job.state in ("stopping", "queued"):
        out().print(f"  [dim]{AFTERWARDS[what].format(job.id)}[/]")


def prioritise(job_id: int, priority: int, *, as_json: bool) -> None:
    """Change a job's priority."""
    with connect() as api:
        found = api.request("PATCH", f"/jobs/{job_id}", json={"priority": priority}).json()
    job = _shown(found, as_json=as_json)
    if job is not None:
        out().print(f"Job {job.id} has priority {job.priority} and is {state(job.state)}.")


def _shown(found: Any, *, as_json: bool) -> JobView | None:
    if as_json:
        print_json(found)
        return None
    return view(JobView, found)


def extend(job_id: int, body: dict[str, Any], *, follow: bool, as_json: bool) -> None:
    """Have a new job train on, and watch it when asked to."""
    with connect() as api:
        found = api.post(f"/jobs/{job_id}/extend", json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
        job = view(JobDetail, found)
        if as_json and not follow:
            print_json(found)
        elif not as_json:
            _print_extension(job_id, job)
        if follow:
            watching.watch_to_end(api, job.id, as_json=as_json)


def _print_extension(job_id: int, job: JobDetail) -> None:
    print_warnings(job.warnings)
    from_step, to_step = job.progress.step, job.progress.total_steps or "its end"
    words = f"goes on from step {from_step} of job {job_id} to {to_step}. It is {state(job.state)}."
    out().print(f"Job [bold]{job.id}[/] {escape(job.name)} {words}", soft_wrap=True)
    if job.weight_check and job.weight_check.twins:
        out().print(f"  {escape(job.weight_check.summary)}", soft_wrap=True)


def clone(
    job_id: int, settings: Sequence[str], fields: dict[str, Any], *, edit: bool, follow: bool, as_json: bool
) -> None:
    """Submit a job's own submission with changes."""
    with connect() as api:
        found = api.get(f"/jobs/{job_id}")
    body = _submission(found)
    document = parse(_pretty(body["config"]), f"the config of job {job_id}")
    apply_settings(document, settings)
    document.overrides |= {f"/{name}": f"--{name.replace('_', '-')} {value}" for name, value in fields.items()}
    with _edited(document) if edit else nullcontext(document) as final:
        send(final, {**body, "config": final.value, **fields}, follow=follow, as_json=as_json)


def _submission(job: dict[str, Any]) -> dict[str, Any]:
    """Return what was submitted for a job; of a group's replica for this one alone, with the seed that it has."""
    submitted = {**job["submitted"], "engine": job["engine"]}
    if submitted.pop("replicas", 1) > 1:
        submitted["seed"] = job["seed"]
    return submitted


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


@contextmanager
def _edited(document: Document) -> Iterator[Document]:
    """Yield a document as its owner leaves it in the editor. The file is kept when it is refused: the work is in it."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", prefix="cairn-edit-", delete=False, encoding="utf-8") as file:
        file.write(_pretty(document.value))
    path = Path(file.name)
    try:
        _open_editor(path)
        edited = read(str(path))
        edited.overrides = document.overrides
        yield edited
    except Failure:
        err().print(f"[dim]Your edit is kept in {escape(str(path))}.[/]", soft_wrap=True)
        raise
    path.unlink()


def _open_editor(path: Path) -> None:
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    try:
        code = subprocess.run([*command, str(path)], check=False).returncode  # noqa: S603 - the user's own choice
    except OSError as error:
        raise usage(f"The editor {command[0]} cannot be started: {error.strerror}.", hint="Set EDITOR.") from error
    if code:
        raise Failure(f"{command[0]} ended with exit code {code}, so nothing was submitted.", code="not-edited")
