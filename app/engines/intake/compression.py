"""Compressed files as streams, told apart by their first bytes."""

import bz2
import gzip
import lzma
from pathlib import Path
from typing import IO

_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}


def compression_of(path: Path) -> str | None:
    """Return `gzip`, `bz2`, `xz`, `zstd` or `zip`; None for everything else."""
    with path.open("rb") as file:
        head = file.read(8)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def decompressed(path: Path, compression: str | None) -> IO[bytes]:
    """Open a file for reading what was compressed."""
    if compression == "gzip":
        return gzip.open(path)  # type: ignore[return-value]  # a GzipFile reads like any file
    if compression == "bz2":
        return bz2.open(path)
    if compression == "xz":
        return lzma.open(path)
    if compression == "zstd":
        # pyarrow brings the codec that the standard library of this Python lacks.
        import pyarrow

        stream: IO[bytes] = pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
        return stream
    return path.open("rb")
