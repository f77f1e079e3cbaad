"""The work directory: one fresh run directory per attempt, and the removal of what dead workers left."""

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.rundir import RunDir

log = logging.getLogger(__name__)

_OURS = re.compile(r"^(\d+-\d+|errand-\w+)$")
"""Names of the directories made here. The work directory may be one in which somebody keeps other things, too."""
_OWNER = ".owner"
"""Locked (flock) by the worker that supervises the attempt: the kernel lets go when that worker dies."""


class RunDirInUse(Exception):
    """Another living worker supervises an attempt of the same job and number in this work directory."""


@contextmanager
def fresh(work: Path, job_id: int, attempt: int) -> Iterator[RunDir]:
    """Make WORK/JOB-ATTEMPT and remove it at the end, whatever happens."""
    with _owned(work, f"{job_id}-{attempt}") as path:
        run = RunDir(path)
        run.create()
        yield run


@contextmanager
def for_errand(work: Path, worker_id: str) -> Iterator[Path]:
    """Make WORK/errand-WORKER and remove it at the end: a worker does one errand at a time."""
    with _owned(work, f"errand-{worker_id[:12]}") as path:
        yield path


@contextmanager
def _owned(work: Path, name: str) -> Iterator[Path]:
    path = work / name
    with _only_one(work):
        if path.exists() and not _remove_if_dead(path):
            raise RunDirInUse(
                f"{path} belongs to another worker. Workers of different servers need a CAIRN_WORK_DIR each."
            )
        path.mkdir(parents=True)
        owner = _lock(path)
        assert owner is not None, "a new directory has no other owner"
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(owner)


def clean(work: Path) -> None:
    """Remove the run directories whose workers are dead."""
    with _only_one(work):
        for path in work.iterdir():
            if _OURS.match(path.name) and path.is_dir() and _remove_if_dead(path):
                log.info("removed %s, left by a worker that is gone", path)


def _remove_if_dead(path: Path) -> bool:
    owner = _lock(path)
    if owner is None:
        return False
    shutil.rmtree(path, ignore_errors=True)
    os.close(owner)
    return True


def _lock(path: Path) -> int | None:
    """Become the owner of a run directory; None when its owner lives."""
    descriptor = os.open(path / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def _only_one(work: Path) -> Iterator[None]:
    """Let one worker at a time make or clean directories: between making and locking, a new one looks like a leftover."""
    work.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(work / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
