"""How blobs get into a backup: each verified on the way, none lost to retention while the rest is copied."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from app.artifacts.backends import CHUNK_BYTES, Directory
from app.artifacts.errors import BlobCorrupt, BlobMissing
from app.artifacts.store import BlobStore

Tell = Callable[[str, int, int], None]
"""Hears of progress: of what, how many, of how many (0: nobody knows)."""


class Collector(Protocol):
    """Copies blobs, given as sizes by digest, out of a store into a directory."""

    copied: int
    """How many were copied; the others were there."""

    def secure(self, blobs: Mapping[str, int], tell: Tell) -> set[str]:
        """See to it that blobs can be fetched even when the store removes them; return those that are missing."""

    def fetch(self, blobs: Mapping[str, int], tell: Tell) -> set[str]:
        """Copy what is not there yet; return what is missing or damaged."""


@contextmanager
def collector(store: BlobStore, target: Path, *, link: bool) -> Iterator[Collector]:
    """Yield what collects from a store. `link`: make hard links instead of copies where that is possible."""
    if not isinstance(store.backend, Directory):
        yield _Remote(store, Directory(target))
        return
    beside = Path(tempfile.mkdtemp(prefix="backup-", dir=store.scratch))
    try:
        yield _Local(store.backend, Directory(target), Directory(beside), link=link)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _has(target: Directory, digest: str, size: int) -> bool:
    stamp = target.stamp(digest)
    return stamp is not None and stamp[0] == size


class _Local:
    """Links blobs of a directory beside it, which takes no time, and copies from there at leisure."""

    def __init__(self, source: Directory, target: Directory, beside: Directory, *, link: bool) -> None:
        self._source, self._target, self._beside, self._link = source, target, beside, link
        self.copied = 0

    def secure(self, blobs: Mapping[str, int], tell: Tell) -> set[str]:
        missing = set()
        for digest, size in blobs.items():
            secured = self._beside.path(digest)
            if _has(self._target, digest, size) or secured.exists():
                continue
            secured.parent.mkdir(exist_ok=True)
            try:
                secured.hardlink_to(self._source.path(digest))
            except FileNotFoundError:
                missing.add(digest)
            except OSError:  # a file system without links: it is fetched from where it is
                continue
        return missing

    def fetch(self, blobs: Mapping[str, int], tell: Tell) -> set[str]:
        bad = set()
        for number, (digest, size) in enumerate(blobs.items(), 1):
            if not _has(self._target, digest, size) and not self._copy(digest):
                bad.add(digest)
            tell("files", number, len(blobs))
        return bad

    def _copy(self, digest: str) -> bool:
        """Copy or link a blob; return whether it is good."""
        secured = self._beside.path(digest)
        source = secured if secured.exists() else self._source.path(digest)
        try:
            if self._link and self._linked(source, digest):
                return True
            good = _store(_chunks(source), self._target, digest)
        except FileNotFoundError:
            return False
        self.copied += good
        return good

    def _linked(self, source: Path, digest: str) -> bool:
        found = hashlib.sha256()
        for chunk in _chunks(source):
            found.update(chunk)
        if found.hexdigest() != digest:
            return False
        path = self._target.path(digest)
        path.parent.mkdir(exist_ok=True)
        with suppress(OSError):  # another file system, or one without links: copied instead
            path.hardlink_to(source)
            self.copied += 1
            return True
        return False


class _Remote:
    """Copies blobs of an object store: there is no quicker way to secure them."""

    def __init__(self, store: BlobStore, target: Directory) -> None:
        self._store, self._target = store, target
        self.copied = 0

    def secure(self, blobs: Mapping[str, int], tell: Tell) -> set[str]:
        return self.fetch(blobs, tell)

    def fetch(self, blobs: Mapping[str, int], tell: Tell) -> set[str]:
        bad = set()
        for number, (digest, size) in enumerate(blobs.items(), 1):
            if not _has(self._target, digest, size):
                try:
                    good = _store(self._store.read(digest), self._target, digest)
                except (BlobMissing, BlobCorrupt):
                    good = False
                self.copied += good
                bad |= set() if good else {digest}
            tell("files", number, len(blobs))
        return bad


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _store(chunks: Iterator[bytes], target: Directory, digest: str) -> bool:
    """Write a blob and return whether it is the one of this digest; if it is not, nothing is left of it."""
    temporary = target.root / f".tmp-{digest}"
    found = hashlib.sha256()
    try:
        with temporary.open("wb") as file:
            for chunk in chunks:
                found.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if found.hexdigest() != digest:
            return False
        target.take(temporary, digest)
    finally:
        temporary.unlink(missing_ok=True)
    return True
