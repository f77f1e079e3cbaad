"""Unpacking archives that nobody vouches for: no path leads out, no link, no device, no bomb."""

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from app.engines.intake.compression import compression_of, decompressed
from app.engines.intake.folder import JUNK, copy_directory
from app.engines.intake.report import Order, refuse

CHUNK_BYTES = 1 << 20
MAX_PATH_CHARACTERS = 1024
MAX_PART_BYTES = 255


@dataclass
class Allowance:
    """How much may still be unpacked."""

    bytes: int
    members: int


def collect(order: Order, root: Path) -> Path | None:
    """Bring the data below `root`; return the file to read when it is neither an archive nor a directory.

    A compressed single file lies in `root` then, without its ending; any other one where it was. Raises Refused.
    """
    if order.kind == "directory":
        copy_directory(order, root)
        return None
    if unpack(order, root):
        return None
    return next(root.iterdir(), order.source)


def unpack(order: Order, target: Path) -> bool:
    """Unpack the source below `target` when it is an archive; return False when it is not.

    A compressed single file (`train.extxyz.gz`) is no archive: it lands uncompressed in `target` under its own name.
    Raises Refused naming the member that is not acceptable.
    """
    allowance = Allowance(order.max_bytes, order.max_members)
    if zipfile.is_zipfile(order.source) and not _looks_like_tar(order.source):
        _unpack_zip(order.source, target, allowance)
        return True
    compression = compression_of(order.source)
    if compression == "zip":
        raise _damaged(order.file_name, EOFError("its directory is missing"))
    try:
        with decompressed(order.source, compression) as stream:
            head = stream.read(512)
        if head[257:262] != b"ustar" and not (compression is None and tarfile_like(head)):
            return compression is not None and _expand_single(order, compression, target, allowance)
        with decompressed(order.source, compression) as stream:
            _unpack_tar(stream, target, allowance)
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise _damaged(order.file_name, error) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(order.file_name, error) from error
    return True


def _damaged(name: str, error: Exception) -> Exception:
    return refuse(
        "archive-truncated",
        f"{name} is damaged or ends too early: {error}.",
        "Pack it again, check it (`tar tf`, `unzip -t`), and upload it again.",
    )


def _looks_like_tar(path: Path) -> bool:
    # An uncompressed tar that happens to end with a zip inside is found by zipfile as well.
    with path.open("rb") as file:
        return file.read(512)[257:262] == b"ustar"


def tarfile_like(head: bytes) -> bool:
    """Return whether 512 bytes are the header of an old (pre-POSIX) tar member."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _expand_single(order: Order, compression: str, target: Path, allowance: Allowance) -> bool:
    name = order.source.stem
    with decompressed(order.source, compression) as stream:
        _write(stream, target / name, name, allowance)
    return False


class _Watched:
    """A stream that remembers its last block: a whole tar ends with blocks of zeros."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._size = 0
        self._last = b""

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._size += len(data)
        self._last = (self._last + data)[-tarfile.BLOCKSIZE :]
        return data

    def is_whole(self) -> bool:
        """Read on to the end, not further than a tape's last record could reach, and return whether the end is one."""
        for _ in range(64):
            if not self.read(CHUNK_BYTES):
                break
        return self._size % tarfile.BLOCKSIZE == 0 and self._last.count(0) == tarfile.BLOCKSIZE


def _unpack_tar(stream: IO[bytes], target: Path, allowance: Allowance) -> None:
    watched = _Watched(stream)
    _unpack_members(watched, target, allowance)
    if not watched.is_whole():
        raise tarfile.ReadError("the end mark is missing")


def _unpack_members(stream: _Watched, target: Path, allowance: Allowance) -> None:
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as archive:
        for member in _counted_tar(archive, allowance):
            path = _safe(member.name, target)
            if path is None or member.isdir():
                continue
            _check_regular(member)
            content = archive.extractfile(member)
            assert content is not None, "a regular member has content"
            written = _write(content, path, member.name, allowance)
            if written != member.size:
                raise refuse("archive-truncated", f"The archive ends in the middle of {member.name!r}.")


def _counted_tar(archive: tarfile.TarFile, allowance: Allowance) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        _count(member.name, allowance)
        if member.size > allowance.bytes:
            raise _bomb(member.name, allowance)
        yield member
        # In stream mode the list of members only grows; a million of them would be kept for nothing.
        archive.members = []  # type: ignore[attr-defined]


def _check_regular(member: tarfile.TarInfo) -> None:
    kind = (
        "a link"
        if member.issym() or member.islnk()
        else "a device or pipe"
        if member.isdev()
        else "a sparse file"
        if member.issparse()
        else None
        if member.isreg()
        else "of an unknown kind"
    )
    if kind:
        raise _unsafe(member.name, f"is {kind}")


def _unpack_zip(source: Path, target: Path, allowance: Allowance) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            for member in archive.infolist():
                _unpack_zip_member(archive, member, target, allowance)
    except (zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, NotImplementedError) as error:
        raise _damaged("The zip archive", error) from error


def _unpack_zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, allowance: Allowance) -> None:
    _count(member.filename, allowance)
    path = _safe(member.filename, target)
    if path is None or member.is_dir():
        return
    mode = member.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise _unsafe(member.filename, "is a link, device or pipe")
    if member.flag_bits & 1:
        raise refuse("archive-encrypted", f"{member.filename!r} is encrypted.", "Pack the archive without a password.")
    if member.file_size > allowance.bytes:
        raise _bomb(member.filename, allowance)
    with archive.open(member) as content:
        _write(content, path, member.filename, allowance)


def _count(name: str, allowance: Allowance) -> None:
    allowance.members -= 1
    if allowance.members < 0:
        raise refuse(
            "archive-too-many-members",
            f"The archive has more members than are accepted; {name!r} is one too many.",
            "Put what belongs together into fewer, larger files, or split the dataset.",
        )


def _safe(name: str, target: Path) -> Path | None:
    """Return where a member goes, None for junk and the root itself."""
    shown = name.encode("utf-8", "backslashreplace").decode()
    if not name.isprintable() or len(name) > MAX_PATH_CHARACTERS:
        raise _unsafe(shown, "has a name with unprintable characters, or a very long one")
    if name.startswith("/") or "\\" in name or (len(name) > 1 and name[1] == ":"):
        raise _unsafe(shown, "has an absolute path or a backslash in its name")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _unsafe(shown, "leads out of the archive")
    if any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        raise _unsafe(shown, "has a name of more than 255 bytes")
    if not parts or parts[0] in JUNK or parts[-1] in JUNK or parts[-1].startswith("._"):
        return None
    return target.joinpath(*parts)


def _write(content: IO[bytes], path: Path, name: str, allowance: Allowance) -> int:
    """Copy a member out, counting what really comes rather than what its header promises."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise refuse("archive-duplicate", f"{name!r} stands twice in the archive.", "Pack it again.") from error
    written = 0
    with file:
        while chunk := content.read(CHUNK_BYTES):
            written += len(chunk)
            if written > allowance.bytes:
                raise _bomb(name, allowance)
            file.write(chunk)
    allowance.bytes -= written
    return written


def _unsafe(name: str, why: str) -> Exception:
    return refuse(
        "archive-unsafe",
        f"The member {name!r} of the archive {why}.",
        "Archives may hold plain files and folders only.",
    )


def _bomb(name: str, allowance: Allowance) -> Exception:
    return refuse(
        "dataset-too-large",
        f"Unpacking {name!r} would exceed what is accepted; {allowance.bytes} bytes were left for it.",
        "Raise CAIRN_MAX_DATASET_BYTES on the server, or free space in its data directory.",
    )
