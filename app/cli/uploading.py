"""Sending files: a small one in one request, a large one in pieces, which go on where they were after an interruption."""

import contextlib
import hashlib
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from app.cli.api import UPLOAD_TIMEOUT, Api, view
from app.cli.failures import INTERRUPTED, UNREACHABLE, Failure, usage
from app.cli.screen import err, size
from app.wire.uploads import UploadView

CHUNK = 1 << 20
PIECE_BYTES = 8 << 20
"""Bytes that one request carries of a large file: what an interruption costs at most. What is smaller goes as a whole."""
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Between two tries while nothing arrives."""
AGAIN = "Run the same command again: it goes on there, within a day."


TRANSIENT = frozenset({"server-unreachable", "not-cairn", "unavailable", "upload-interrupted"})
"""Failures after which the same request may go well: the line, a proxy, a server that is restarted."""


class Moved(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, /) -> None:
        """Show that `done` bytes of all are on their way."""


@dataclass(frozen=True)
class Source:
    """A file, or a directory that is sent as a tar."""

    path: Path

    @property
    def name(self) -> str:
        """What the server is told that it is called."""
        return f"{self.path.name or 'data'}.tar" if self.path.is_dir() else self.path.name

    @property
    def is_large(self) -> bool:
        """Whether it goes in pieces."""
        return content_bytes(self.path) > PIECE_BYTES

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """Yield what is sent, from byte `start` on."""
        if self.path.is_dir():
            yield from _beyond(start, packed(self.path))
        else:
            yield from read(self.path, start)


def content_bytes(path: Path) -> int:
    """Return the size of a file, or of all files of a directory."""
    return sum(file.stat().st_size for file in _files(path)) if path.is_dir() else path.stat().st_size


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def read(path: Path, start: int = 0) -> Iterator[bytes]:
    """Yield a file from byte `start` on, chunk by chunk."""
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(CHUNK):
            yield chunk


def packed(directory: Path) -> Iterator[bytes]:
    """Yield a directory as a tar, chunk by chunk: the same files always give the same bytes.

    Links are packed as what they point to: the server takes no links.
    """
    for path in _files(directory):
        info = tarfile.TarInfo(str(path.relative_to(directory)))
        info.size = path.stat().st_size
        yield info.tobuf(tarfile.PAX_FORMAT)
        yield from read(path)
        yield bytes(-info.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _beyond(start: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[start:]
        start = max(0, start - len(chunk))


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to read something into a failure that names it."""
    try:
        yield
    except OSError as error:
        raise usage(f"{path} cannot be read: {error.strerror}.", code="unreadable-file") from error


def post_file(api: Api, route: str, path: Path, fields: dict[str, Any]) -> Any:
    """Send a file or directory to a route that takes one, and return its answer."""
    source = Source(path)
    params = {**fields, "filename": source.name}
    with readable(path):
        if not source.is_large:
            return _post_whole(api, route, source, params)
        upload = send_in_pieces(api, source)
    return finish(lambda: api.post(route, params={**params, "upload": upload}, timeout=UPLOAD_TIMEOUT))


def _post_whole(api: Api, route: str, source: Source, params: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/octet-stream"}
    if source.path.is_file():
        headers["Content-Length"] = str(source.path.stat().st_size)
    with progress(f"uploading {source.name}", content_bytes(source.path)) as moved:
        content = _counted(source.chunks(), moved)
        return api.post(route, params=params, content=content, headers=headers, timeout=UPLOAD_TIMEOUT)


def _counted(chunks: Iterable[bytes], moved: Moved, done: int = 0) -> Iterator[bytes]:
    for chunk in chunks:
        done += len(chunk)
        moved(done)
        yield chunk


def send_in_pieces(api: Api, source: Source) -> str:
    """Send a file in pieces, from where an earlier call stopped, and return what the upload is called.

    Raises Failure when nothing arrives for a minute, saying how much is there.
    """
    there = _look(api, _identified(source))  # whether a server answers at all is said at once
    pauses = iter(PAUSES_S)
    with progress(f"uploading {source.name}", there.size, there.received) as moved:
        while there.received < there.size:
            try:
                for piece in _pieces(source.chunks(there.received)):
                    there = _put(api, there, piece, moved)
                    pauses = iter(PAUSES_S)
            except Failure as failure:
                there = _after(api, failure, there, pauses)
            except KeyboardInterrupt:
                raise _stopped("Interrupted", there, "interrupted", INTERRUPTED) from None
    return there.upload


def _identified(source: Source) -> str:
    """Return the name of an upload, which is the digest and size of all that will be sent."""
    digest, count = hashlib.sha256(), 0
    with progress(f"hashing {source.name}", content_bytes(source.path)) as moved:
        for chunk in _counted(source.chunks(), moved):
            digest.update(chunk)
            count += len(chunk)
    return f"{digest.hexdigest()}-{count}"


def _look(api: Api, upload: str) -> UploadView:
    return view(UploadView, api.get(f"/uploads/{upload}"))


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    waiting = bytearray()
    for chunk in chunks:
        waiting += chunk
        while len(waiting) >= PIECE_BYTES:
            yield bytes(waiting[:PIECE_BYTES])
            del waiting[:PIECE_BYTES]
    if waiting:
        yield bytes(waiting)


def _put(api: Api, there: UploadView, piece: bytes, moved: Moved) -> UploadView:
    first = there.received
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(len(piece)),
        "Content-Range": f"bytes {first}-{first + len(piece) - 1}/{there.size}",
    }
    chunks = (piece[start : start + CHUNK] for start in range(0, len(piece), CHUNK))
    content = _counted(chunks, moved, first)
    return view(UploadView, api.request("PUT", f"/uploads/{there.upload}", content=content, headers=headers).json())


def _after(api: Api, failure: Failure, there: UploadView, pauses: Iterator[float]) -> UploadView:
    """Return how much has arrived once the server answers again; raise the failure when waiting would not help."""
    while failure.code in TRANSIENT:
        pause = next(pauses, None)
        if pause is None:
            raise _stopped("The connection broke and stays away", there, failure.code, failure.exit_code) from failure
        time.sleep(pause)
        try:
            return _look(api, there.upload)
        except Failure as again:
            failure = again
    if failure.code == "upload-offset":  # an answer was lost, or somebody else sends the same file
        return _look(api, there.upload)
    raise failure


def _stopped(why: str, there: UploadView, code: str, exit_code: int) -> Failure:
    message = f"{why}: {size(there.received)} of {size(there.size)} are at the server."
    return Failure(message, code=code, hint=AGAIN, exit_code=exit_code)


def finish(make: Callable[[], Any]) -> Any:
    """Return what the server makes of files that have arrived. It may take long; a broken connection is tried again."""
    broke = False
    for pause in PAUSES_S:
        try:
            return make()
        except Failure as failure:
            if broke and failure.code == "upload-incomplete":
                raise _answer_lost() from failure
            if failure.code not in TRANSIENT:
                raise
        broke = True
        time.sleep(pause)
    return make()


def _answer_lost() -> Failure:
    return Failure(
        "The server has taken what was uploaded, but its answer was lost.",
        code="answer-lost",
        hint="Look whether it is there: `cairn dataset ls`, `cairn model ls`, `cairn ls`.",
        exit_code=UNREACHABLE,
    )


@contextlib.contextmanager
def progress(what: str, total: int, done: int = 0) -> Iterator[Moved]:
    """Show how much of something is on its way, or hashed. `done`: where it goes on."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err(), transient=True, disable=not err().is_terminal) as bar:
        task = bar.add_task(escape(what), total=total, completed=done)

        def moved(done: int) -> None:
            is_sent = done >= total and what.startswith("uploading")
            bar.update(task, completed=done, description="the server checks it" if is_sent else escape(what))

        yield moved
