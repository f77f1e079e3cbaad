"""Where blobs lie: a local directory, or an object store behind obstore."""

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore

from app.errors import Unavailable

if TYPE_CHECKING:
    from obstore import ObjectMeta  # only in its stubs

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
"""Bytes moved at a time: large enough that a thread switch per chunk costs nothing, small enough to stay in cache."""

QUARANTINE = "quarantine"
"""Where damaged blobs are kept, apart from the good ones: nothing is served from there."""

Stamp = tuple[int | str, ...]
"""Changes whenever the bytes may have changed. The size comes first."""

_KEY = re.compile(r"^([0-9a-f]{2})/([0-9a-f]{62})$")


@dataclass(frozen=True)
class Stored:
    """A blob that is in the store, or a damaged copy in quarantine."""

    sha256: str
    size: int
    changed_at: float
    """When its bytes were written, in seconds of Unix time."""


class Backend(Protocol):
    """Bytes by SHA-256."""

    is_far: bool
    """Whether asking it takes as long as a network does."""

    def stamp(self, sha256: str) -> Stamp | None:
        """Return the size and what changes with the bytes; None when there is no such blob."""

    def read(self, sha256: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from `start` up to, not including, `stop`."""

    def take(self, path: Path, sha256: str) -> None:
        """Store a complete, hashed and synced file; the file itself may be moved away."""

    def remove(self, sha256: str) -> None:
        """Remove a blob, if it is there."""

    def blobs(self) -> Iterator[Stored]:
        """Yield every blob that is there, in any order; not those in quarantine."""

    def quarantine(self, sha256: str) -> None:
        """Move a blob aside, if it is there. Copies that were moved aside before stay as they are."""

    def quarantined(self) -> Iterator[Stored]:
        """Yield the damaged copies that were moved aside: several, when a blob was healed and damaged again."""

    def in_quarantine(self, sha256: str) -> bool:
        """Return whether a damaged copy of a blob was moved aside."""


class Directory:
    """Blobs as read-only files, `ab/cdef…`, below a local directory."""

    is_far = False

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sha256: str) -> Path:
        """Return where the blob is or would be."""
        return self.root / sha256[:2] / sha256[2:]

    def stamp(self, sha256: str) -> Stamp | None:
        """Return size, time of change and inode."""
        try:
            stat = self.path(sha256).stat()
        except FileNotFoundError:
            return None
        return stat.st_size, stat.st_mtime_ns, stat.st_ino

    def read(self, sha256: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes in chunks."""
        with self.path(sha256).open("rb", buffering=0) as file:
            file.seek(start)
            while start < stop and (chunk := file.read(min(CHUNK_BYTES, stop - start))):
                start += len(chunk)
                yield chunk

    def take(self, path: Path, sha256: str) -> None:
        """Rename the file into place and sync the directories, so that the name survives a power cut."""
        target = self.path(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.chmod(0o444)
        path.replace(target)
        sync_directory(target.parent)
        sync_directory(self.root)

    def remove(self, sha256: str) -> None:
        """Unlink the file. Who is reading it reads on to its end."""
        self.path(sha256).unlink(missing_ok=True)

    def blobs(self) -> Iterator[Stored]:
        """Walk through the directories."""
        yield from self._found("[0-9a-f][0-9a-f]/*", lambda path: path.parent.name + path.name)

    def quarantine(self, sha256: str) -> None:
        """Rename the file."""
        target = self._aside(sha256)
        target.parent.mkdir(exist_ok=True)
        number = 1
        while target.exists():
            number += 1
            target = target.with_name(f"{sha256}.{number}")
        with suppress(FileNotFoundError):
            self.path(sha256).rename(target)
            sync_directory(target.parent)

    def quarantined(self) -> Iterator[Stored]:
        """List the directory of damaged copies."""
        yield from self._found(f"{QUARANTINE}/*", lambda path: path.name[:64])

    def in_quarantine(self, sha256: str) -> bool:
        """Look for the first damaged copy."""
        return self._aside(sha256).exists()

    def _aside(self, sha256: str) -> Path:
        return self.root / QUARANTINE / sha256

    def _found(self, pattern: str, name: Callable[[Path], str]) -> Iterator[Stored]:
        for path in self.root.glob(pattern):
            with suppress(FileNotFoundError):  # removed at this moment
                stat = path.stat()
                yield Stored(name(path), stat.st_size, stat.st_mtime)


class Bucket:
    """Blobs as objects `ab/cdef…` of an object store."""

    is_far = True

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def stamp(self, sha256: str) -> Stamp | None:
        """Return size, entity tag and time of change."""
        try:
            with _answering():
                meta = obstore.head(self.store, _key(sha256))
        except (NotFoundError, FileNotFoundError):
            return None
        return meta["size"], meta["e_tag"] or "", meta["last_modified"].isoformat()

    def read(self, sha256: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes as they arrive."""
        if start < stop:
            with _answering():
                result = obstore.get(self.store, _key(sha256), options={"range": (start, stop)})
                for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                    yield bytes(chunk)

    def take(self, path: Path, sha256: str) -> None:
        """Upload the file, in parts when it is large."""
        with _answering():
            obstore.put(self.store, _key(sha256), path, max_concurrency=4)
        path.unlink()

    def remove(self, sha256: str) -> None:
        """Delete the object."""
        with suppress(NotFoundError, FileNotFoundError), _answering():
            obstore.delete(self.store, _key(sha256))

    def blobs(self) -> Iterator[Stored]:
        """List the objects, a page at a time."""
        for meta in self._listed(None):
            if match := _KEY.match(meta["path"]):
                yield Stored(match[1] + match[2], meta["size"], meta["last_modified"].timestamp())

    def quarantine(self, sha256: str) -> None:
        """Copy the object within the store, then delete it: object stores know no renaming."""
        number = sum(1 for _ in self._listed(f"{QUARANTINE}/{sha256}"))
        aside = f"{QUARANTINE}/{sha256}/{number + 1}"
        with suppress(NotFoundError, FileNotFoundError), _answering():
            obstore.copy(self.store, _key(sha256), aside)
            obstore.delete(self.store, _key(sha256))

    def quarantined(self) -> Iterator[Stored]:
        """List the damaged copies."""
        for meta in self._listed(QUARANTINE):
            yield Stored(meta["path"].split("/")[1], meta["size"], meta["last_modified"].timestamp())

    def in_quarantine(self, sha256: str) -> bool:
        """Look for any damaged copy."""
        return next(self._listed(f"{QUARANTINE}/{sha256}"), None) is not None

    def _listed(self, prefix: str | None) -> "Iterator[ObjectMeta]":
        with _answering():
            for page in obstore.list(self.store, prefix=prefix):
                yield from page


@contextmanager
def _answering() -> Iterator[None]:
    """Say in words that the object store is away, refuses us, or broke off."""
    try:
        yield
    except (NotFoundError, FileNotFoundError):
        raise
    except (BaseError, PermissionError) as error:
        log.warning("the object store: %s", error)
        raise Unavailable(
            "the object store does not answer as it should just now",
            code="object-store-away",
            hint="Try again in a moment; the server's log has the reason. CAIRN_BLOB_URL and the AWS_… variables name it.",
        ) from error


def _key(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256[2:]}"


def sync_directory(path: Path) -> None:
    """Make renames in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
