"""Restore: database, blobs and keys out of a backup. Everything is checked before anything is changed."""

import os
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from sqlalchemy import Engine, inspect, text

import migrations
from app.artifacts.backends import Directory
from app.artifacts.errors import disk_full_named
from app.artifacts.store import BlobStore, open_store
from app.db import make_engine
from app.errors import Conflict
from app.maintenance import dump
from app.maintenance.backup import Manifest, NoBackup, read_manifest, sha256_of
from app.maintenance.collecting import Tell
from app.settings import Settings


@dataclass(frozen=True)
class Restored:
    """What was restored."""

    manifest: Manifest
    rows: int
    blobs: int
    damaged: list[str]
    """Blobs that are not in the backup as they should be, beside those that it lacked from the start."""


def restore(settings: Settings, directory: Path, *, force: bool = False, tell: Tell = lambda *_: None) -> Restored:
    """Make database, store and keys what they were, and migrate the database to this version.

    Raises:
        NoBackup: the directory holds no whole backup, or one that was changed since.
        Conflict: `not-empty`: there are data, and not `force`. `newer-backup`: a newer Cairn made it.
    """
    manifest = _checked(directory)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    url = settings.effective_database_url
    engine = make_engine(url)
    try:
        if not force:
            _refuse_data(engine, url)
        with disk_full_named("the backup"):
            # Blobs first: a database whose rows name what is not there yet would be worse than none.
            count, damaged = _restore_blobs(open_store(settings), Directory(directory / "blobs"), tell)
            _empty(engine)
            command.upgrade(migrations.configuration(url), manifest.revision)
            with engine.begin() as connection:
                rows = dump.load(
                    connection, directory / manifest.database, lambda done: tell("database rows", done, manifest.rows)
                )
            migrations.migrate(url)
            _restore_keys(settings, directory, manifest)
    finally:
        engine.dispose()
    return Restored(manifest, rows, count, damaged)


def _checked(directory: Path) -> Manifest:
    manifest = read_manifest(directory)
    if manifest.database not in manifest.files:
        raise NoBackup(f"The manifest of {directory} has no SHA-256 of {manifest.database}.")
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise NoBackup(f"{path} is missing: the backup is not whole.")
        if (found := sha256_of(path)) != expected:
            raise NoBackup(f"{path} was changed since the backup: its SHA-256 is {found}, not {expected}.")
    if manifest.revision not in migrations.known():
        raise Conflict(
            f"The backup is of Cairn {manifest.cairn}, whose database (version {manifest.revision}) is newer than this "
            f"one knows.",
            code="newer-backup",
            hint=f"Install Cairn {manifest.cairn} or newer.",
        )
    return manifest


def _refuse_data(engine: Engine, url: str) -> None:
    with engine.connect().execution_options(read_only=True) as connection:
        for name in ("jobs", "datasets", "base_models"):
            there = inspect(connection).has_table(name)
            if there and (count := connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()):  # noqa: S608
                shown = engine.url.render_as_string(hide_password=True)
                raise Conflict(
                    f"The database {shown} is not empty: it has {count} {name.replace('_', ' ')}.",
                    code="not-empty",
                    hint="Restore into another data directory; --force replaces all that is there, for good.",
                )


def _empty(engine: Engine) -> None:
    """Drop every table."""
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(text("PRAGMA defer_foreign_keys=ON"))
        dump.reflected(connection).drop_all(connection)


def _restore_blobs(store: BlobStore, source: Directory, tell: Tell) -> tuple[int, list[str]]:
    found = sorted(one.sha256 for one in source.blobs())
    count, damaged = 0, []
    for number, digest in enumerate(found, 1):
        good = store.intact(digest) or _restore_blob(store, source, digest)
        count += good
        damaged += [] if good else [digest]
        tell("files", number, len(found))
    return count, damaged


def _restore_blob(store: BlobStore, source: Directory, digest: str) -> bool:
    stamp = source.stamp(digest)
    assert stamp is not None
    with store.receive() as incoming:
        for chunk in source.read(digest, 0, int(stamp[0])):
            incoming.write(chunk)
        if incoming.finish().sha256 != digest:
            return False
        store.keep(incoming)
    return True


def _restore_keys(settings: Settings, directory: Path, manifest: Manifest) -> None:
    """Put the tokens and the key back; those of a data directory that was new would open nothing."""
    for name in manifest.files:
        if not name.startswith("keys/"):
            continue
        target = settings.data_dir / name.removeprefix("keys/")
        temporary = target.with_name(f".{target.name}.tmp")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write((directory / name).read_bytes())
        temporary.replace(target)
