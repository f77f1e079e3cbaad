"""HTTP in and out of the blob store, at constant memory: request bodies in, Range and conditional requests out."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse
from starlette.requests import ClientDisconnect

from app.artifacts.backends import CHUNK_BYTES
from app.artifacts.errors import RangeNotSatisfiable, UploadInterrupted
from app.artifacts.store import Blobs, BlobStore, Incoming
from app.errors import TooLarge
from app.settings import Settings

_RANGE = re.compile(r"^bytes=(?P<first>[0-9]*)-(?P<last>[0-9]*)$")


def upload_limit(request: Request) -> int:
    """Return the largest upload accepted, after refusing one that announces more."""
    settings: Settings = request.app.state.settings
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > settings.max_upload_bytes:
        raise too_large(settings.max_upload_bytes)
    return settings.max_upload_bytes


def too_large(limit: int) -> TooLarge:
    """Return the error of an upload over the limit."""
    return TooLarge(
        f"The upload is larger than the {limit} bytes this server accepts.",
        hint="Raise CAIRN_MAX_UPLOAD_BYTES on the server, or register the data as a directory.",
    )


async def fill(incoming: Incoming, chunks: AsyncIterator[bytes]) -> None:
    """Write an asynchronous stream into a file in large steps; one is hashed on a thread while the next arrives."""
    waiting = bytearray()
    writing: asyncio.Task[None] | None = None
    try:
        async for chunk in chunks:
            waiting += chunk
            if incoming.limit is not None and incoming.received + len(waiting) > incoming.limit:
                raise too_large(incoming.limit)
            if len(waiting) >= CHUNK_BYTES:
                if writing is not None:
                    await writing
                writing = asyncio.create_task(run_in_threadpool(incoming.write, bytes(waiting)))
                incoming.received += len(waiting)
                waiting.clear()
    except ClientDisconnect as error:
        raise UploadInterrupted(
            f"The connection ended after {incoming.received + len(waiting)} bytes; nothing was stored.",
            hint="Send the file again.",
        ) from error
    finally:
        # A thread must not write to a file that is closed meanwhile; its own error comes out here.
        if writing is not None:
            await writing
    await run_in_threadpool(incoming.write, bytes(waiting))


async def _body(request: Request, store: Blobs) -> AsyncIterator[Incoming]:
    limit = upload_limit(request)
    with store.receive(limit) as incoming:
        await fill(incoming, request.stream())
        yield incoming


ReceivedBody = Annotated[Incoming, Depends(_body)]
"""The request's body as a hashed file. A route that takes it runs once the whole body is on disk."""


def download(
    request: Request,
    store: BlobStore,
    sha256: str,
    *,
    file_name: str | None = None,
    media_type: str = "application/octet-stream",
) -> Response:
    """Answer GET or HEAD for a blob: 200, 206, 304 or 416, with strong ETag and Repr-Digest (RFC 9110, RFC 9530).

    Several ranges in one request are answered with the whole blob, as the standard allows. Raises BlobMissing,
    BlobCorrupt or RangeNotSatisfiable before anything is sent.
    """
    size = store.verify(sha256)
    etag = f'"{sha256}"'
    headers = _headers(sha256, etag, file_name)
    if _matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    start, stop, partial = _wanted(request, etag, size)
    if start >= stop and partial:
        raise RangeNotSatisfiable(size)
    headers["Content-Length"] = str(stop - start)
    if partial:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    status = 206 if partial else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    return StreamingResponse(
        store.backend.read(sha256, start, stop), status_code=status, headers=headers, media_type=media_type
    )


def _headers(sha256: str, etag: str, file_name: str | None) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(sha256)).decode()
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{digest}:",
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if file_name:
        headers["Content-Disposition"] = content_disposition(file_name)
    return headers


def content_disposition(file_name: str) -> str:
    """Return a header that saves the download under `file_name` and under nothing that a name could smuggle in."""
    name = re.sub(r"[\x00-\x1f\x7f]", "", file_name).replace("\\", "/").rsplit("/", 1)[-1].strip(". ") or "download"
    plain = re.sub(r"[^A-Za-z0-9._+@ -]", "_", name)
    encoded = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{encoded}'


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag in tags or "*" in tags


def _wanted(request: Request, etag: str, size: int) -> tuple[int, int, bool]:
    """Return the half-open byte range to send and whether it is partial; an empty partial one lies outside."""
    if_range = request.headers.get("if-range")
    match = _RANGE.match(request.headers.get("range", "").replace(" ", ""))
    if match is None or (if_range is not None and if_range != etag) or match["first"] == match["last"] == "":
        return 0, size, False
    if match["first"] == "":
        return max(0, size - int(match["last"])), size, True
    first = int(match["first"])
    last = int(match["last"]) if match["last"] else max(first, size - 1)
    # A last byte before the first is no valid range, and what is not valid is to be ignored.
    return (0, size, False) if last < first else (first, min(last + 1, size), True)
