"""Multipart forms whose files go straight to the scratch directory: any size at constant memory."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from app.artifacts.backends import CHUNK_BYTES
from app.artifacts.errors import UploadInterrupted
from app.artifacts.store import BlobStore, Incoming
from app.artifacts.transfer import too_large, upload_limit
from app.errors import AppError, Invalid
from app.wire.problems import Problem

MAX_FIELD_BYTES = 16 << 20
"""Bytes of all fields that are no files together: a config is the largest of them."""

MAX_PARTS = 100


@dataclass(frozen=True)
class ReceivedFile:
    """A file part, on disk and hashed. `incoming.path` is gone when the request is over."""

    field: str
    file_name: str
    incoming: Incoming


@dataclass
class Form:
    """What a multipart request held: text by field name, files in order."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[ReceivedFile] = field(default_factory=list)

    def file(self, name: str) -> ReceivedFile:
        """Return the one file of a field. Raises Invalid when it is missing."""
        found = [file for file in self.files if file.field == name]
        if len(found) != 1:
            message = f"The form needs exactly one file in its field `{name}`; it has {len(found)}."
            raise Invalid([Problem(code="missing-file", message=message, hint=f"curl -F {name}=@FILE …")])
        return found[0]


class _Parts:
    """Callbacks of the parser. What a part holds waits in memory until `settle` writes it, a step at a time."""

    def __init__(self, store: BlobStore, stack: ExitStack, limit: int) -> None:
        self.form = Form()
        self.waiting: list[tuple[Incoming, bytes]] = []
        self.complete = False
        self._store, self._stack, self._limit = store, stack, limit
        self._parts = self._field_bytes = 0
        self._header = b""
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._text: bytearray | None = None
        self._incoming: Incoming | None = None

    def on_part_begin(self) -> None:
        self._headers, self._header = {}, b""
        self._value = b""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _malformed(f"it has more than {MAX_PARTS} parts")

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise _malformed("a part has no name")
        self._name = options[b"name"].decode("utf-8", "replace")
        if b"filename" in options:
            self._incoming = self._stack.enter_context(self._store.receive(self._limit))
            file_name = options[b"filename"].decode("utf-8", "replace")
            self.form.files.append(ReceivedFile(self._name, file_name, self._incoming))
        else:
            self._text = bytearray()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._incoming is not None:
            self.waiting.append((self._incoming, data[start:end]))
            return
        assert self._text is not None, "a part is a file or a field"
        self._field_bytes += end - start
        if self._field_bytes > MAX_FIELD_BYTES:
            raise too_large(MAX_FIELD_BYTES)
        self._text += data[start:end]

    def on_part_end(self) -> None:
        if self._text is not None:
            self.form.fields[self._name] = self._text.decode("utf-8", "replace")
        self._text = self._incoming = None

    def on_end(self) -> None:
        self.complete = True

    def settle(self) -> None:
        """Write what is waiting, the many small pieces that the parser makes of binary data together."""
        for incoming, pieces in groupby(self.waiting, key=lambda piece: piece[0]):
            incoming.write(b"".join(data for _, data in pieces))
            if incoming.size > self._limit:
                raise too_large(self._limit)
        self.waiting.clear()

    def callbacks(self) -> dict[str, object]:
        """Return the callbacks by the parser's names."""
        return {name: getattr(self, name) for name in dir(self) if name.startswith("on_")}


async def receive_form(request: Request, store: BlobStore, stack: ExitStack) -> Form:
    """Read a multipart request. Its files live until `stack` is closed.

    Raises:
        Invalid: it is no well-formed multipart form.
        TooLarge: a file or all fields together are over the limit.
        UploadInterrupted: the client went away.
    """
    limit = upload_limit(request)
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise _malformed("its Content-Type is not multipart/form-data with a boundary")
    parts = _Parts(store, stack, limit)
    parser = MultipartParser(options[b"boundary"], parts.callbacks())  # type: ignore[arg-type]  # a TypedDict of these
    try:
        async for chunk in _large_chunks(request):
            await run_in_threadpool(_feed, parser, parts, chunk)
    except FormParserError as error:
        raise _malformed(str(error)) from error
    if not parts.complete:
        raise _malformed("it ends before its closing boundary")
    return parts.form


async def _large_chunks(request: Request) -> AsyncIterator[bytes]:
    waiting = bytearray()
    try:
        async for chunk in request.stream():
            waiting += chunk
            if len(waiting) >= CHUNK_BYTES:
                yield bytes(waiting)
                waiting.clear()
    except ClientDisconnect as error:
        raise UploadInterrupted("The connection ended within the upload; nothing was stored.") from error
    if waiting:
        yield bytes(waiting)


def _feed(parser: MultipartParser, parts: _Parts, chunk: bytes) -> None:
    parser.write(chunk)
    parts.settle()


def _malformed(why: str) -> AppError:
    message = f"The multipart form cannot be read: {why}."
    return Invalid(
        [Problem(code="bad-form", message=message, hint="curl -F name=NAME -F file=@FILE … makes a good one.")]
    )
