"""Large blobs that come in pieces: what has arrived stays in the scratch directory, so an interrupted upload goes on.

`HEAD /blobs/SHA256` says how far one is (`Upload-Offset`), `PUT` with `Content-Range` appends the next piece. Each piece is
received whole before it is appended, so what is there is always the beginning of the file, and half a piece is nothing.
What people upload in pieces (`waiting.py`) grows by the same rules.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.artifacts.errors import DigestMismatch, disk_full_named
from app.artifacts.store import BlobStore, Digests, Incoming
from app.artifacts.transfer import too_large
from app.errors import AppError, Conflict

_RANGE = re.compile(r"^bytes (?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})/(?P<total>[0-9]{1,18})$")


class OtherOffset(Conflict):
    """A piece that does not begin where the one before ended."""

    code = "upload-offset"

    def __init__(self, offset: int) -> None:
        super().__init__(f"{offset} bytes have arrived; the next piece must begin there.")
        self.headers = {"Upload-Offset": str(offset)}


@dataclass(frozen=True)
class Piece:
    """Where a piece belongs: bytes `first` to `last` of `total`."""

    first: int
    last: int
    total: int

    @classmethod
    def parse(cls, header: str, limit: int) -> "Piece":
        """Return what a `Content-Range` says. Raises AppError, and TooLarge for a file over the limit."""
        match = _RANGE.match(header)
        piece = cls(*(int(match[name]) for name in ("first", "last", "total"))) if match else None
        if piece is None or not piece.first <= piece.last < piece.total:
            raise AppError(f"Content-Range {header!r} cannot be read.", hint="It looks like: bytes 0-1048575/4194304.")
        if piece.total > limit:
            raise too_large(limit)
        return piece


def _path(store: BlobStore, sha256: str) -> Path:
    return store.scratch / f"partial-{sha256}"


def offset(store: BlobStore, sha256: str) -> int:
    """Return how many bytes of a blob have arrived in pieces."""
    try:
        return _path(store, sha256).stat().st_size
    except FileNotFoundError:
        return 0


def append(store: BlobStore, sha256: str, piece: Piece, incoming: Incoming) -> Digests | None:
    """Append a piece. Returns what identifies the blob when this was its last one, and it is stored.

    Raises:
        DigestMismatch: as `appended`; or the whole is not what it was to be, and is gone.
        OtherOffset, DiskFull: as `appended`.
    """
    path = _path(store, sha256)
    with appended(path, piece, incoming) as received:
        if received < piece.total:
            return None
        try:
            return store.adopt(path, expected=sha256)
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def appended(path: Path, piece: Piece, incoming: Incoming) -> Iterator[int]:
    """Append a piece to a partial file and yield how many bytes have arrived, while nobody else extends it.

    Raises:
        OtherOffset: the piece does not begin where the one before ended.
        DigestMismatch: the piece has another length than announced.
        DiskFull: there is no room. What was there stays.
    """
    expected = piece.last - piece.first + 1
    if incoming.finish().size != expected:
        raise DigestMismatch(f"The piece was announced with {expected} bytes, but {incoming.size} arrived.")
    with _locked(path) as file:
        size = file.seek(0, os.SEEK_END)
        # A file that is whole already was about to be stored when the server was killed.
        if size < piece.total:
            if size != piece.first:
                raise OtherOffset(size)
            _extend(file, size, incoming)
            size += expected
        yield size


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Open a partial file, which nobody else extends meanwhile: a sender that gave up may still be on the line."""
    while True:
        with disk_full_named("an upload"), path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not os.fstat(file.fileno()).st_nlink:  # completed, and moved away, while this waited
                continue
            yield file
            return


def _extend(file: BinaryIO, size: int, incoming: Incoming) -> None:
    try:
        with disk_full_named(f"a piece of {incoming.size} bytes"), incoming.path.open("rb") as piece:
            shutil.copyfileobj(piece, file, 1 << 20)
            file.flush()
    except BaseException:
        file.truncate(size)
        raise
