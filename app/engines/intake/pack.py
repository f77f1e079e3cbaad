"""Writing checked data as one deterministic tar, with the digest of its content."""

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, cast

File = tuple[str, int, Iterator[bytes]]
"""A file of a dataset: its path in the archive, its size in bytes, and its content in pieces."""


def pack(files: Iterable[File], archive: Path) -> str:
    """Write an uncompressed tar of all files and return the content digest.

    Members are sorted and carry no times or owners, so equal content gives equal bytes. The digest is SHA-256 over one
    line per file, `PATH NUL SHA256 LF`, sorted by path: it says what is in the dataset, whatever the archive was.
    """
    lines = []
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for path, size, content in sorted(files, key=lambda file: file[0]):
            member = tarfile.TarInfo(path)
            member.size, member.mode = size, 0o644
            reader = Reader(content)
            tar.addfile(member, cast("IO[bytes]", reader))
            lines.append(f"{path}\0{reader.sha256.hexdigest()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class Reader:
    """A file-like view of an iterator of bytes that hashes what is read through it."""

    def __init__(self, content: Iterator[bytes]) -> None:
        self.sha256 = hashlib.sha256()
        self._content = content
        self._buffer = BytesIO()

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes, fewer only at the end."""
        parts = []
        while size > 0:
            part = self._buffer.read(size)
            if not part:
                following = next(self._content, None)
                if following is None:
                    break
                self._buffer = BytesIO(following)
            parts.append(part)
            size -= len(part)
        data = b"".join(parts)
        self.sha256.update(data)
        return data
