"""What can go wrong with stored bytes."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import AppError, NotFound, Unavailable


class BlobMissing(NotFound):
    """No blob of this digest."""

    code = "blob-missing"


class BlobCorrupt(AppError):
    """Stored bytes that no longer hash to their name. Never served."""

    status = 410
    code = "blob-corrupt"


class BlobVanished(Unavailable):
    """Bytes that were removed, because nothing referred to them, while somebody sent the same ones again."""

    code = "blob-vanished"


class DigestMismatch(AppError):
    """An upload that is not what its sender says it is."""

    status = 422
    code = "digest-mismatch"


class DiskFull(AppError):
    """No room left on the server."""

    status = 507
    code = "disk-full"


class UploadInterrupted(AppError):
    """The client went away in the middle of an upload."""

    code = "upload-interrupted"


class RangeNotSatisfiable(AppError):
    """A range of bytes outside of the file."""

    status = 416
    code = "range-not-satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes; the range asked for lies outside of it.")
        self.headers = {"Content-Range": f"bytes */{size}"}


@contextmanager
def disk_full_named(what: str) -> Iterator[None]:
    """Turn the operating system's "no space left" into an answer that says what did not fit."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(
            f"The server's disk is full: {what} was not stored, and nothing of it is left behind.",
            hint="Free space in CAIRN_DATA_DIR or move it to a larger disk, then send it again.",
        ) from error
