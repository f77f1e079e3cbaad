"""The blob store: content-addressed, streamed, hashed while writing, verified before reading, never overwritten."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

from fastapi import Depends, Request
from obstore.store import from_url

from app.artifacts.backends import CHUNK_BYTES, Backend, Bucket, Directory, Stamp
from app.artifacts.errors import BlobCorrupt, BlobMissing, DigestMismatch, disk_full_named
from app.settings import Settings

STALE_S = 24 * 3600
"""Age after which a file in the scratch directory belongs to nobody: no upload takes that long."""


@dataclass(frozen=True)
class Digests:
    """What identifies bytes."""

    sha256: str
    md5: str
    size: int


def check_digest(expected: str, digests: Digests) -> None:
    """Raise DigestMismatch unless the bytes received are the ones announced."""
    if digests.sha256 != expected:
        raise DigestMismatch(
            f"The {digests.size} bytes received hash to {digests.sha256}, not to {expected}; they were not stored.",
            hint="The file changed while it was sent, or the connection damaged it: send it again.",
        )


def hashed(path: Path) -> Digests:
    """Put a file's bytes on the disk for good and return what identifies them."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
            md5.update(chunk)
        os.fsync(file.fileno())
    return Digests(sha256.hexdigest(), md5.hexdigest(), path.stat().st_size)


class Incoming:
    """A file that is being received: hashed while it is written, gone at the end unless the store took it."""

    def __init__(self, scratch: Path, limit: int | None = None) -> None:
        descriptor, name = tempfile.mkstemp(prefix="incoming-", dir=scratch)
        self.path = Path(name)
        self.limit = limit
        self.size = 0
        self.received = 0
        """Bytes handed over for writing, some of which may not be written yet."""
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises DiskFull when there is no room."""
        with disk_full_named(f"an upload of more than {self.size} bytes"):
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]
        self._sha256.update(chunk)
        self._md5.update(chunk)
        self.size += len(chunk)

    def finish(self) -> Digests:
        """Put the bytes on the disk for good and return what identifies them. A second call changes nothing."""
        if not self._file.closed:
            with disk_full_named(f"an upload of {self.size} bytes"):
                os.fsync(self._file.fileno())
            self._file.close()
        return self.digests

    @property
    def digests(self) -> Digests:
        """What identifies the bytes written so far."""
        return Digests(self._sha256.hexdigest(), self._md5.hexdigest(), self.size)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class BlobStore:
    """Bytes by SHA-256. What it hands out has been hashed by this process since it last changed."""

    def __init__(self, backend: Backend, scratch: Path) -> None:
        self.backend = backend
        self.scratch = scratch
        self._hashed: dict[str, tuple[Stamp, str]] = {}
        """What the bytes of a blob hashed to when this process last read them, and their stamp then."""

    def receive(self, limit: int | None = None) -> Incoming:
        """Open a file to write a new blob into; a context manager that cleans up."""
        return Incoming(self.scratch, limit)

    def keep(self, incoming: Incoming) -> Digests:
        """Store what was received. Bytes that are there already stay as they are; damaged ones are replaced."""
        digests = incoming.finish()
        self.place(incoming.path, digests)
        return digests

    def adopt(self, path: Path, expected: str | None = None) -> Digests:
        """Store a file by moving it away. It must lie on the scratch directory's file system.

        Raises DigestMismatch, and stores nothing, when its SHA-256 is not `expected`.
        """
        digests = hashed(path)
        if expected is not None:
            check_digest(expected, digests)
        self.place(path, digests)
        return digests

    def place(self, path: Path, digests: Digests) -> None:
        """Store a file that was hashed by moving it away, unless its bytes are there already."""
        if self.intact(digests.sha256):
            return
        with disk_full_named(f"a blob of {digests.size} bytes"):
            self.backend.take(path, digests.sha256)
        stamp = self.backend.stamp(digests.sha256)
        assert stamp is not None, "a blob just stored is there"
        self._hashed[digests.sha256] = stamp, digests.sha256

    def keep_bytes(self, data: bytes) -> Digests:
        """Store bytes that are already in memory."""
        with self.receive() as incoming:
            incoming.write(data)
            return self.keep(incoming)

    def size(self, sha256: str) -> int | None:
        """Return the stored size, unverified; None when there is no such blob."""
        stamp = self.backend.stamp(sha256)
        return None if stamp is None else int(stamp[0])

    def intact(self, sha256: str) -> bool:
        """Return whether the blob is there and hashes to its name."""
        return self.damage(sha256) is None

    def damage(self, sha256: str) -> str | None:
        """Return in two words what is wrong with a blob, None when it is intact. Hashes it as `verify` does."""
        try:
            self.verify(sha256)
        except BlobMissing:
            return "missing"
        except BlobCorrupt:
            return "sha256 differs"
        return None

    def verify(self, sha256: str) -> int:
        """Return the blob's size once its bytes are known to be good.

        Hashes it the first time this process meets it and whenever its size or time of change differs from then.
        Raises BlobMissing or BlobCorrupt.
        """
        stamp = self.backend.stamp(sha256)
        if stamp is None and self.backend.in_quarantine(sha256):
            raise BlobCorrupt(
                f"The stored blob {sha256} was found damaged and is kept aside.",
                hint="Upload the same file again, or restore it from a backup; the damaged one is never served.",
            )
        if stamp is None:
            raise BlobMissing(
                f"The blob {sha256} is not in the store.",
                hint="Restore it from a backup, or upload the same file again.",
            )
        known = self._hashed.get(sha256)
        if known is None or known[0] != stamp:
            known = self._hashed[sha256] = stamp, self._rehash(sha256, int(stamp[0]))
        if known[1] != sha256:
            raise BlobCorrupt(
                f"The stored blob {sha256} is damaged: its {stamp[0]} bytes hash to {known[1]}.",
                hint="Upload the same file again, or restore it from a backup; the damaged one is never served.",
            )
        return int(stamp[0])

    def _rehash(self, sha256: str, size: int) -> str:
        found = hashlib.sha256()
        for chunk in self.backend.read(sha256, 0, size):
            found.update(chunk)
        return found.hexdigest()

    def read(self, sha256: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield verified bytes in chunks. Raises before the first one when the blob is missing or damaged."""
        size = self.verify(sha256)
        return self.backend.read(sha256, start, size if stop is None else stop)

    def remove(self, sha256: str) -> None:
        """Remove a blob that nothing refers to."""
        self._hashed.pop(sha256, None)
        self.backend.remove(sha256)

    def problem(self, sha256: str, size: int, *, quick: bool = False) -> str | None:
        """Say what is wrong with a blob that should have `size` bytes; None: it is good. Hashes it, unless `quick`."""
        stamp = self.backend.stamp(sha256)
        if stamp is None:
            return "missing"
        if stamp[0] != size:
            return f"{stamp[0]} bytes instead of {size}"
        if quick:
            return None
        self._hashed.pop(sha256, None)
        return self.damage(sha256)

    def quarantine(self, sha256: str) -> None:
        """Move a damaged blob aside: it is kept, and never served."""
        self._hashed.pop(sha256, None)
        self.backend.quarantine(sha256)

    def stale(self) -> list[Path]:
        """Return what killed processes left in the scratch directory."""
        return [path for path in self.scratch.iterdir() if _age_s(path) >= STALE_S]

    def clean_up(self) -> None:
        """Remove what killed processes left in the scratch directory."""
        for path in self.stale():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:  # its upload ended at this moment
        return 0.0


def open_store(settings: Settings) -> BlobStore:
    """Return the store that the settings name: `CAIRN_BLOB_URL`, or a directory in the data directory.

    An S3 store takes its credentials and endpoint from the usual `AWS_…` variables.
    """
    scratch = settings.data_dir / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    if settings.blob_url:
        # People wait for it: it is not asked again for the minutes that are its library's default.
        store = from_url(
            settings.blob_url,
            client_options={
                "connect_timeout": timedelta(seconds=5),
                "timeout": timedelta(seconds=120),
                "allow_http": True,  # who names an http:// endpoint means it
            },
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
        )
        return BlobStore(Bucket(store), scratch)
    root = settings.data_dir / "blobs"
    root.mkdir(parents=True, exist_ok=True)
    return BlobStore(Directory(root), scratch)


def _store(request: Request) -> BlobStore:
    store: BlobStore = request.app.state.blobs
    return store


Blobs = Annotated[BlobStore, Depends(_store)]
"""The application's store, as a route parameter."""
