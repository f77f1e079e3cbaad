"""Backup: database, blobs and keys into a directory, consistent while the server runs.

    DIR/manifest.json          what the backup holds, with SHA-256; written last: without it there is no backup
    DIR/database-….jsonl.gz    every row, from one snapshot (`dump.py`)
    DIR/blobs/ab/cdef…         files of the store under their SHA-256
    DIR/keys/                  first tokens, and what signs session cookies

A second backup into the same directory copies only blobs that are not there yet, and takes the first one's place.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import Connection, Engine, text

from app.artifacts.backends import CHUNK_BYTES, sync_directory
from app.artifacts.errors import disk_full_named
from app.artifacts.store import open_store
from app.db import make_engine
from app.errors import AppError, Conflict
from app.maintenance import dump
from app.maintenance.collecting import Collector, Tell, collector
from app.settings import Settings

MANIFEST = "manifest.json"
KEYS = ("user.token", "worker.token", "secret.key")
FORMAT = 1
DUMPS_AT_MOST = 3

_DUMP = r"database-[0-9T]+\.jsonl\.gz"
_NAMES = rf"^({_DUMP}|keys/({'|'.join(map(re.escape, KEYS))}))$"
"""Files are read and written under these names only, whatever a manifest from elsewhere says."""


class NoBackup(AppError):
    """A directory that holds no whole backup."""

    code = "no-backup"


class Manifest(BaseModel):
    """What a backup holds."""

    format: int = FORMAT
    cairn: str
    revision: str
    """Version of the database's schema."""
    created_at: datetime
    database: Annotated[str, Field(pattern=rf"^{_DUMP}$")]
    rows: int
    files: dict[Annotated[str, Field(pattern=_NAMES)], str]
    """SHA-256 of every file but the blobs, whose names are theirs."""
    blobs: int
    size: int
    """Bytes of all blobs."""
    missing: list[str] = []
    """Blobs that were missing or damaged in the store already."""
    copied: int = 0
    """Blobs that this backup copied; the others lay there from an earlier one."""


def backup(settings: Settings, directory: Path, *, link: bool = False, tell: Tell = lambda *_: None) -> Manifest:
    """Back everything up. `link`: blobs on the same file system become hard links, which take no time and no room.

    Raises:
        Conflict: `not-a-backup`: the directory holds something else.
        DiskFull: there is no room for it; an earlier backup in the directory stays whole.
    """
    _make_directory(directory)
    engine, store = make_engine(settings.effective_database_url), open_store(settings)
    try:
        with disk_full_named("the backup"), collector(store, directory / "blobs", link=link) as blobs:
            return _Backup(engine, blobs, directory, tell).make(settings)
    finally:
        engine.dispose()


def _make_directory(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    known = (MANIFEST, "blobs", "keys")
    strange = [path.name for path in directory.iterdir() if not path.name.startswith((*known, "database-", ".tmp-"))]
    if strange:
        raise Conflict(
            f"{directory} holds {strange[0]}, which is no part of a backup.",
            code="not-a-backup",
            hint="Give the backup a directory of its own.",
        )
    (directory / "blobs").mkdir(exist_ok=True)


class _Backup:
    def __init__(self, engine: Engine, collector: Collector, directory: Path, tell: Tell) -> None:
        self.engine, self.collector, self.directory, self.tell = engine, collector, directory, tell

    def make(self, settings: Settings) -> Manifest:
        # Before the snapshot, too: what retention removes while the rest is being copied is there already.
        self.collector.secure(self._blobs_now(), self.tell)
        for _ in range(DUMPS_AT_MOST):
            taken = self._dump()
            # A blob that is gone with its row, a moment after a row named it: what the rows say is taken anew.
            if taken.missing <= set(self._blobs_now()):
                break
        missing = taken.missing | self.collector.fetch(taken.blobs, self.tell)
        keys = _copy_keys(settings, self.directory / "keys")
        manifest = Manifest(
            cairn=version("cairn"),
            revision=taken.revision,
            created_at=datetime.now(UTC),
            database=taken.path.name,
            rows=taken.rows,
            files={name: sha256_of(self.directory / name) for name in (taken.path.name, *keys)},
            blobs=len(taken.blobs) - len(missing),
            size=sum(size for digest, size in taken.blobs.items() if digest not in missing),
            missing=sorted(missing),
            copied=self.collector.copied,
        )
        _write_durably(self.directory / MANIFEST, manifest.model_dump_json(indent=2).encode())
        self._drop_what_is_not_in(taken)
        return manifest

    def _dump(self) -> "_Taken":
        path = self.directory / f"database-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.jsonl.gz"
        with dump.snapshot(self.engine) as connection:
            blobs = _blobs(connection)
            missing = self.collector.secure(blobs, self.tell)  # at once, before anything of it can be removed
            rows = dump.write(connection, path, lambda count: self.tell("database rows", count, 0))
            _sync(path)
            return _Taken(path, dump.revision(connection), rows, blobs, missing)

    def _blobs_now(self) -> dict[str, int]:
        with dump.snapshot(self.engine) as connection:
            return _blobs(connection)

    def _drop_what_is_not_in(self, taken: "_Taken") -> None:
        for path in self.directory.glob("database-*"):
            if path != taken.path:
                path.unlink()
        for path in (self.directory / "blobs").glob("??/*"):
            if path.parent.name + path.name not in taken.blobs:
                path.unlink()


@dataclass(frozen=True)
class _Taken:
    """A dump of the database, and the blobs that it names."""

    path: Path
    revision: str
    rows: int
    blobs: dict[str, int]
    missing: set[str]


def _blobs(connection: Connection) -> dict[str, int]:
    return dict(connection.execute(text("SELECT sha256, size FROM blobs")).all())


def _copy_keys(settings: Settings, directory: Path) -> list[str]:
    directory.mkdir(exist_ok=True, mode=0o700)
    names = []
    for name in KEYS:
        source = settings.data_dir / name
        if source.is_file():
            _write_durably(directory / name, source.read_bytes())
            names.append(f"keys/{name}")
    return names


def read_manifest(directory: Path) -> Manifest:
    """Return what a directory's backup holds. Raises NoBackup."""
    path = directory / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise NoBackup(f"{directory} holds no whole backup: it has no {MANIFEST}.") from error
    except (OSError, ValidationError) as error:
        raise NoBackup(f"{path} cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise NoBackup(f"{path} is of format {manifest.format}; this version reads {FORMAT}.")
    return manifest


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    sync_directory(path.parent)


def _write_durably(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".tmp-{path.name}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)
