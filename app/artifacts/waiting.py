"""Files that people upload in pieces: they wait in the scratch directory until something is made of them.

An upload is known by what it is to become, `SHA256-SIZE`, so whoever sends the same file again goes on where it was, after
Ctrl-C or from another machine. One that nobody goes on with is swept like everything that is left in the scratch directory.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.artifacts import partial
from app.artifacts.errors import DigestMismatch
from app.artifacts.store import BlobStore, Digests, Incoming, check_digest, hashed
from app.errors import Conflict
from app.wire.uploads import UploadView


class UploadIncomplete(Conflict):
    """Something is to be made of an upload that is not whole: bytes are missing, or it was used or swept away."""

    code = "upload-incomplete"


def _path(store: BlobStore, upload: str) -> Path:
    return store.scratch / f"waiting-{upload}"


def _expected(upload: str) -> tuple[str, int]:
    sha256, _, size = upload.partition("-")
    return sha256, int(size)


def look(store: BlobStore, upload: str) -> UploadView:
    """Return how much of an upload has arrived."""
    path, (_, size) = _path(store, upload), _expected(upload)
    received = path.stat().st_size if path.exists() else 0
    return UploadView(upload=upload, received=received, size=size)


def append(store: BlobStore, upload: str, piece: partial.Piece, incoming: Incoming) -> UploadView:
    """Append a piece, and return how much has arrived now. Raises what `partial.appended` raises."""
    _, size = _expected(upload)
    if piece.total != size:
        raise DigestMismatch(f"The piece is of a file of {piece.total} bytes, but the upload is of one of {size}.")
    with partial.appended(_path(store, upload), piece, incoming) as received:
        return UploadView(upload=upload, received=received, size=size)


@contextmanager
def used(store: BlobStore, upload: str) -> Iterator[tuple[Path, Digests]]:
    """Yield an upload's file and what identifies it. It is gone afterwards, unless what it was for goes wrong.

    A whole upload is never extended, so its file may be linked and moved.

    Raises:
        UploadIncomplete: not all of it is here.
        DigestMismatch: its bytes are not what they were to be; it is gone, to be sent again.
    """
    path, (sha256, size) = _path(store, upload), _expected(upload)
    received = look(store, upload).received
    if received < size:
        raise _incomplete(upload, received, size)
    try:
        os.utime(path)  # it is in use: not swept meanwhile
        digests = hashed(path)
    except FileNotFoundError:  # used by somebody else at this moment
        raise _incomplete(upload, 0, size) from None
    try:
        check_digest(sha256, digests)
    except DigestMismatch:
        path.unlink(missing_ok=True)
        raise
    yield path, digests
    path.unlink(missing_ok=True)


def _incomplete(upload: str, received: int, size: int) -> UploadIncomplete:
    return UploadIncomplete(
        f"{received} of the upload's {size} bytes are here.",
        hint=f"Send the rest: PUT /api/v1/uploads/{upload}. What was used, or left for a day, is gone.",
    )
