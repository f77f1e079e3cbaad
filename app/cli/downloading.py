"""`cairn download`: files of a job, resumed after an interruption, verified, never overwritten in silence."""

import base64
import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from app.cli.api import Api, connect, view
from app.cli.failures import UNREACHABLE, Failure, usage
from app.cli.screen import err, out, print_json, size
from app.wire.checkpoints import CheckpointView
from app.wire.jobs import JobDetail, JobFile
from app.wire.system import EngineView

TRIES = 6
CHUNK = 1 << 20


@dataclass(frozen=True)
class Target:
    """Where files go."""

    output: str | None
    force: bool = False

    def path(self, name: str, *, single: bool) -> Path:
        """Return where `name` goes: into the output when that is a directory, else to it when it is the only file."""
        if self.output is None:
            return Path(name)
        directory = self.output.endswith("/") or Path(self.output).is_dir() or not single
        return Path(self.output) / name if directory else Path(self.output)


@dataclass(frozen=True)
class Remote:
    """A file to fetch. Digest and size may only become known with the answer."""

    path: str
    name: str
    params: tuple[tuple[str, str], ...] = ()
    sha256: str | None = None
    size: int | None = None


def download(job_id: int, what: str, *, step: int | None, all_files: bool, target: Target, as_json: bool) -> None:
    """Fetch what was asked for and say where it is."""
    with connect() as api:
        fetch_all(api, _remotes(api, job_id, what, step=step, all_files=all_files), target, as_json=as_json)


def fetch_all(api: Api, remotes: list[Remote], target: Target, *, as_json: bool) -> None:
    """Fetch files and say where they are."""
    single = len(remotes) == 1
    found = [fetch(api, each, target.path(each.name, single=single), force=target.force) for each in remotes]
    if as_json:
        print_json([{"path": str(path), "sha256": digest, "size": path.stat().st_size} for path, digest in found])
        return
    for path, digest in found:
        out().print(f"{path}  {size(path.stat().st_size)}  [dim]sha256 {digest[:12]} verified[/]", soft_wrap=True)


def _remotes(api: Api, job_id: int, what: str, *, step: int | None, all_files: bool) -> list[Remote]:
    if what == "checkpoint":
        return checkpoint_files(api, job_id, step=step, all_files=all_files)
    if step is not None or all_files:
        raise usage(f"--step and --all-files belong to a checkpoint, not to the {what}.")
    if what == "bundle":
        return [Remote(f"/jobs/{job_id}/bundle", f"job-{job_id}.zip")]
    if what == "files":
        return job_files(api, job_id)
    return [learning_curve(api, job_id)]


def learning_curve(api: Api, job_id: int) -> Remote:
    """Return the file that the engine of a training has for its metrics, under its usual name."""
    job = view(JobDetail, api.get(f"/jobs/{job_id}"))
    engines = [view(EngineView, item) for item in api.get("/engines")]
    name = next((engine.learning_curve_name for engine in engines if engine.name == job.engine), "metrics.txt")
    return Remote(f"/jobs/{job_id}/metrics", name, (("format", "learning-curve"),))


def job_files(api: Api, job_id: int) -> list[Remote]:
    """Return the files that a job made beside its checkpoints."""
    found = [view(JobFile, item) for item in api.get(f"/jobs/{job_id}/files")]
    if not found:
        hint = "A training has checkpoints instead; other jobs have files once they have completed."
        raise Failure(f"Job {job_id} has no files.", code="no-files", hint=hint)
    base = f"/jobs/{job_id}/files"
    return [Remote(f"{base}/{file.name}", file.name, sha256=file.sha256, size=file.size) for file in found]


def checkpoint_files(api: Api, job_id: int, *, step: int | None = None, all_files: bool = False) -> list[Remote]:
    """Return the files of a checkpoint: the engine's own, or all."""
    job = view(JobDetail, api.get(f"/jobs/{job_id}"))
    if job.kind != "train":
        hint = f"`cairn download {job_id} files` fetches what it made."
        raise Failure(f"Job {job_id} is a {job.kind} job: only trainings make models.", code="no-training", hint=hint)
    checkpoints = [view(CheckpointView, item) for item in api.get(f"/jobs/{job_id}/checkpoints")]
    chosen = [item for item in checkpoints if step in (None, item.step)]
    if not chosen:
        raise _no_checkpoint(job_id, step, checkpoints)
    newest = max(chosen, key=lambda item: (item.attempt, item.step))
    base = f"/jobs/{job_id}/checkpoints/{newest.id}"
    return [
        Remote(f"{base}/{file.name}", Path(file.name).name, sha256=file.sha256, size=file.size)
        for file in newest.files
        if all_files or file.role == "checkpoint"
    ]


def _no_checkpoint(job_id: int, step: int | None, checkpoints: list[CheckpointView]) -> Failure:
    if not checkpoints:
        return Failure(f"Job {job_id} has no checkpoint yet.", code="no-checkpoint")
    steps = ", ".join(str(item.step) for item in checkpoints)
    return Failure(f"Job {job_id} has no checkpoint of step {step}.", code="no-checkpoint", hint=f"There are: {steps}.")


def fetch(api: Api, remote: Remote, path: Path, *, force: bool = False) -> tuple[Path, str]:
    """Fetch a file to `path` and return its SHA-256. A part left by an earlier call is continued.

    Raises:
        Failure: another file is there, the connection stays away, or what arrived has another digest.
    """
    if path.exists() and not force:
        if remote.sha256 and _digest(path) == remote.sha256:
            return path, remote.sha256
        raise Failure(f"{path} is there already.", code="file-exists", hint="Use --output, or --force to overwrite it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path, _fetch(api, remote, path)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}.", code="unwritable-file") from error


def _fetch(api: Api, remote: Remote, path: Path) -> str:
    # The part's name holds the digest, so that what is continued is always the same file.
    part = path.with_name(f".{path.name}.{(remote.sha256 or 'whole')[:12]}.part")
    if remote.sha256 is None:
        part.unlink(missing_ok=True)
    with _progress(remote) as advance:
        expected = _receive_with_patience(api, remote, part, advance)
    digest = _digest(part)
    if expected is not None and digest != expected:
        part.unlink()
        raise Failure(
            f"{remote.name}: what arrived has SHA-256 {digest[:12]}…, expected {expected[:12]}….",
            code="digest-mismatch",
            hint="Nothing was kept; try again. If it stays so, the file is damaged on the server.",
        )
    part.replace(path)
    return digest


def _receive_with_patience(api: Api, remote: Remote, part: Path, advance: "Advance") -> str | None:
    for attempt in range(TRIES):
        before = part.stat().st_size if part.exists() else 0
        try:
            return _receive(api, remote, part, advance)
        except Failure as failure:
            after = part.stat().st_size if part.exists() else 0
            if failure.exit_code != UNREACHABLE or attempt == TRIES - 1 or after == before == 0:
                raise
            time.sleep(min(0.2 * 2**attempt, 5.0))
    raise AssertionError("the last try returns or raises")


def _receive(api: Api, remote: Remote, part: Path, advance: "Advance") -> str | None:
    """Append what is missing; return the digest the file must have, as far as anybody said."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and remote.sha256:
        headers["If-Range"] = f'"{remote.sha256}"'
    with api.stream(remote.path, headers=headers, **dict(remote.params)) as response:
        continued = response.status_code == httpx.codes.PARTIAL_CONTENT
        if response.status_code != httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            advance(have if continued else 0, _total(response, have if continued else 0))
            with part.open("ab" if continued else "wb") as file:
                for chunk in response.iter_raw(CHUNK):
                    file.write(chunk)
                    advance(file.tell(), None)
                file.flush()
                os.fsync(file.fileno())
        return remote.sha256 or _promised(response)


def _total(response: httpx.Response, have: int) -> int | None:
    length = response.headers.get("Content-Length")
    return have + int(length) if length else None


def _promised(response: httpx.Response) -> str | None:
    """Return the SHA-256 of the answer's `Repr-Digest` (RFC 9530), in hex."""
    match = re.search(r"sha-256=:([A-Za-z0-9+/=]+):", response.headers.get("Repr-Digest", ""))
    return base64.b64decode(match[1]).hex() if match else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Advance(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, total: int | None) -> None:
        """Show that `done` bytes of `total` have arrived; None leaves the total as it was."""


@contextlib.contextmanager
def _progress(remote: Remote) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err(), transient=True, disable=not err().is_terminal) as progress:
        task = progress.add_task(remote.name, total=remote.size)

        def advance(done: int, total: int | None) -> None:
            progress.update(task, completed=done)
            if total is not None:
                progress.update(task, total=total)

        yield advance
