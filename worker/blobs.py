"""The blobs of the worker protocol, client side: files of any size, sent in pieces, which go on after an interruption."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx

from worker import client

CHUNK_BYTES = 1 << 20
PIECE_BYTES = 32 << 20
"""Bytes that one request carries of a large blob: what an interruption costs at most."""


def received(api: client.Api, sha256: str) -> int | None:
    """Return how many bytes of a blob the server has received in pieces; None: it holds the whole."""
    response = client.send(api, "HEAD", f"/blobs/{sha256}", answers=(404,))
    if response.status_code == 404:
        return int(response.headers.get("Upload-Offset", 0))
    return None


def put(
    api: client.Api, sha256: str, path: Path, pass_: Callable[[int], None] = lambda _: None, chunk: int = CHUNK_BYTES
) -> None:
    """Upload a file at constant memory, a large one in pieces: called again, it goes on where it was interrupted.

    `pass_` is called before each `chunk` bytes and may wait. The server re-hashes the file: `client.Refused` with code
    `digest-mismatch` if it differs.
    """
    size = path.stat().st_size
    while (there := received(api, sha256)) is not None:
        # The server may have been killed with all of it there and not yet stored: the last byte makes it look.
        start = max(0, min(there, size - 1))
        try:
            _put_from(api, sha256, path, start, pass_, chunk)
        except client.Refused as error:
            # An answer was lost, or somebody else sends the same bytes: ask how far it is.
            # Or what had arrived before was damaged there, and is gone: send all of it.
            if error.code == "upload-offset" or (error.code == "digest-mismatch" and start):
                continue
            raise
        return


def _put_from(api: client.Api, sha256: str, path: Path, offset: int, pass_: Callable[[int], None], chunk: int) -> None:
    size = path.stat().st_size
    while True:
        stop = min(size, offset + PIECE_BYTES)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(stop - offset)}
        if stop - offset < size:
            headers["Content-Range"] = f"bytes {offset}-{stop - 1}/{size}"
        piece = partial(_chunks, path, offset, stop, api.hurry, pass_, chunk)
        client.send(api, "PUT", f"/blobs/{sha256}", content=piece, headers=headers)
        if stop == size:
            return
        offset = stop


@contextmanager
def get(api: client.Api, sha256: str, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Open a download from byte `offset` on; yields where the bytes really start (0: no ranges) and the bytes.

    Raises:
        client.Unreachable: Also when the connection breaks in the middle.
    """
    headers = client.headers_of(api) | ({"Range": f"bytes={offset}-"} if offset else {})
    try:
        path = f"/blobs/{sha256}" if api.errand_id is None else f"{client.errand_path(api)}/blob"
        with api.http.stream("GET", path, headers=headers) as response:
            if response.status_code >= 400:
                response.read()
            client.check(api, response)
            yield offset if response.status_code == 206 else 0, response.iter_raw(CHUNK_BYTES)
    except httpx.RequestError as error:
        raise client.Unreachable(client.describe(error)) from error


def _chunks(
    path: Path, start: int, stop: int, hurry: client.Hurry, pass_: Callable[[int], None], size: int
) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < stop and (chunk := file.read(min(size, stop - start))):
            pass_(len(chunk))
            if hurry.is_set():
                raise client.Unreachable(f"upload of {path.name} abandoned")
            start += len(chunk)
            yield chunk
