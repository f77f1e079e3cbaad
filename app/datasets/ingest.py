"""Turning uploads into packed datasets, by an intake process under limits. No database here."""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore

import app
from app.artifacts.errors import DiskFull
from app.artifacts.store import BlobStore, Digests
from app.engines.base import Engine
from app.engines.intake.report import ARCHIVE_NAME, OUTCOME_NAME, Order, Outcome
from app.errors import Forbidden, Invalid, NotFound, TooLarge
from app.settings import Settings
from app.wire.datasets import DatasetSummary
from app.wire.problems import Problem

log = logging.getLogger(__name__)

MAX_MEMBERS = 500_000
"""Files of a dataset at most."""

DISK_RESERVE_BYTES = 1 << 30
"""What an intake leaves free on the disk, so that the rest of the service goes on."""

_at_once = BoundedSemaphore(2)
"""Intakes that run at the same time: each may take much memory and a core."""


@dataclass(frozen=True)
class Packed:
    """A checked dataset whose archive lies in the blob store, not yet registered under a name."""

    digest: str
    blob: Digests
    summary: DatasetSummary
    warnings: tuple[str, ...]
    source: str


def pack_upload(
    settings: Settings,
    store: BlobStore,
    engine: Engine,
    path: Path,
    file_name: str,
    type_map: Sequence[str] | None = None,
    form: str = "",
) -> Packed:
    """Check an uploaded file as an engine's data, convert it where needed, and store it in canonical form.

    `path` must lie in the store's scratch directory. `type_map` names the elements of systems that have no
    type_map.raw; `form` is one of `DataWords.asked_for`. Slow: minutes for large data, so never call it inside a transaction.

    Raises:
        Invalid: the engine has no such form; everything that is wrong with the data, each problem naming the archive's member, file, frame or atom.
        TooLarge: it is larger than accepted once unpacked.
        DiskFull: there is no room for it.
    """
    if form and form not in engine.data_words.asked_for:
        there_are = ", ".join(engine.data_words.asked_for) or "none: leave it out"
        message = f"{engine.name} has no data of form {form!r}"
        raise Invalid([Problem(code="unknown-form", message=message, pointer="/form", hint=f"There is: {there_are}.")])
    with _workplace(store) as work:
        name = safe_name(file_name)
        source = Path(work) / "source" / name
        source.parent.mkdir()
        os.link(path, source)
        return _run(settings, store, engine, Path(work), source, name, type_map, form)


def pack_directory(
    settings: Settings, store: BlobStore, engine: Engine, directory: str, type_map: Sequence[str] | None = None
) -> Packed:
    """Check and copy a directory (or a single file) of the server, like `pack_upload`.

    Raises:
        Forbidden: it does not lie below one of the configured roots, links resolved.
        NotFound: there is nothing at that path.
    """
    source = _below_roots(settings, directory)
    with _workplace(store) as work:
        return _run(settings, store, engine, Path(work), source, str(source), type_map)


def safe_name(file_name: str) -> str:
    """Return a file name without any meaning but its letters: readers look at endings, never at directories."""
    last = file_name.replace("\\", "/").rsplit("/", 1)[-1]
    return re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip(".-")[-120:] or "upload"


def _below_roots(settings: Settings, directory: str) -> Path:
    roots = [root.resolve() for root in settings.dataset_roots]
    source = Path(directory).resolve()
    if not Path(directory).is_absolute() or not any(source.is_relative_to(root) for root in roots):
        configured = ", ".join(str(root) for root in roots) or "none"
        raise Forbidden(
            f"{directory} does not lie below a directory from which datasets may be registered ({configured}).",
            code="outside-roots",
            pointer="/path",
            hint="Set CAIRN_DATASET_ROOTS on the server, or upload the data.",
        )
    if not source.exists():
        raise NotFound(f"There is nothing at {directory} on the server.", code="no-such-directory", pointer="/path")
    return source


def _workplace(store: BlobStore) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="intake-", dir=store.scratch, ignore_cleanup_errors=True)


def _run(
    settings: Settings,
    store: BlobStore,
    engine: Engine,
    work: Path,
    source: Path,
    file_name: str,
    type_map: Sequence[str] | None,
    form: str = "",
) -> Packed:
    # Everything lies twice on the disk for a while: unpacked, and packed in canonical form.
    room = (shutil.disk_usage(work).free - DISK_RESERVE_BYTES) // 2
    order = Order(
        source=source,
        kind="directory" if source.is_dir() else "file",
        file_name=file_name,
        work=work,
        roots=[root.resolve() for root in settings.dataset_roots],
        take_in=engine.intake,
        remedy=engine.data_words.remedy,
        type_map=list(type_map) if type_map else None,
        form=form,
        max_bytes=max(0, min(settings.max_dataset_bytes, room)),
        max_members=MAX_MEMBERS,
        memory_bytes=settings.intake_memory_bytes,
        cpu_s=settings.intake_s,
    )
    with _at_once:
        outcome = _outcome(order, settings.intake_s)
    if outcome.problems or outcome.summary is None:
        raise _error(outcome.problems)
    return Packed(
        digest=outcome.digest,
        blob=store.adopt(work / ARCHIVE_NAME),
        summary=outcome.summary,
        warnings=tuple(outcome.warnings),
        source=f"{'directory' if order.kind == 'directory' else 'file'} {file_name}",
    )


def _outcome(order: Order, limit_s: int) -> Outcome:
    words = order.work / "stderr.txt"
    try:
        with words.open("wb") as stderr:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "app.datasets.intake"],
                input=order.model_dump_json().encode(),
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=order.work,
                env=_environment(),
                timeout=limit_s,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return Outcome(problems=[_too_slow(order, limit_s)])
    answer = order.work / OUTCOME_NAME
    if done.returncode == 0 and answer.exists():
        return Outcome.model_validate_json(answer.read_bytes())
    log.warning("intake of %s ended with %s: %s", order.file_name, done.returncode, _end_of(words))
    if done.returncode == -signal.SIGXCPU:
        return Outcome(problems=[_too_slow(order, limit_s)])
    return Outcome(problems=[_crashed(order, done.returncode)])


def _end_of(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4000))
        return file.read().decode(errors="replace")


def _environment() -> dict[str, str]:
    """Return all that the intake process may know of us: how to import the code, and to use one core."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(Path(app.__path__[0]).parent),
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def _too_slow(order: Order, limit_s: int) -> Problem:
    return Problem(
        code="intake-time",
        message=f"Reading {order.file_name} takes longer than the {limit_s} s allowed.",
        hint=f"{order.remedy}, or raise CAIRN_INTAKE_S on the server.",
    )


def _crashed(order: Order, code: int) -> Problem:
    return Problem(
        code="unreadable-data",
        message=f"{order.file_name} cannot be read: its reader broke down (status {code}); the server's log has the rest.",
        hint=f"Check the file with the program that wrote it. {order.remedy}.",
    )


def _error(problems: list[Problem]) -> Exception:
    first = problems[0]
    if first.code == "disk-full":
        return DiskFull(first.message, hint=first.hint)
    if first.code == "dataset-too-large":
        return TooLarge(first.message, code=first.code, hint=first.hint)
    return Invalid(problems)
