"""The worker's half of the blob store: blobs by digest, artifacts by key. Every route needs an attempt's token."""

from dataclasses import dataclass
from functools import partial as bind
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from app.apart import apart
from app.artifacts import partial, service
from app.artifacts.hashing import HashedArtifact
from app.artifacts.store import Blobs, BlobStore, Digests, Incoming, check_digest
from app.artifacts.transfer import ReceivedBody, download, upload_limit
from app.auth import CurrentAttempt
from app.db import ReadSession, WriteSession
from app.wire.worker import ArtifactView

worker_router = APIRouter(prefix="/api/v1/worker", tags=["worker"])

Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
Kind = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Key = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


@dataclass(frozen=True)
class _Arrived:
    """Bytes of a blob that are on the disk: all of them, or some pieces, up to `offset`."""

    digests: Digests | None
    new: bool = True
    offset: int = 0


# Hashing a whole file takes its time: it is over before the route gets one of the few sessions that write.
async def _arrived(
    request: Request, sha256: Sha256, attempt: CurrentAttempt, body: ReceivedBody, store: Blobs
) -> _Arrived:
    announced = request.headers.get("content-range")
    piece = partial.Piece.parse(announced, upload_limit(request)) if announced else None
    return await apart(request, "blobs", bind(_store, store, sha256, piece, body))


def _store(store: BlobStore, sha256: str, piece: partial.Piece | None, body: Incoming) -> _Arrived:
    new = not store.intact(sha256)
    if piece is not None:
        return _Arrived(partial.append(store, sha256, piece, body), new, piece.last + 1)
    check_digest(sha256, body.finish())
    return _Arrived(store.keep(body), new)


@worker_router.put("/blobs/{sha256}", responses={202: {"description": "The piece is there, others are not."}})
def put_blob(arrived: Annotated[_Arrived, Depends(_arrived)], store: Blobs, session: WriteSession) -> Response:
    """Store bytes: 201 when they are new, 200 when the server had them; 422 `digest-mismatch` otherwise.

    With `Content-Range` the body is one piece: 202 with `Upload-Offset`, where the next one begins, until it was the
    last; 409 `upload-offset` when it does not begin where the one before ended.
    """
    if arrived.digests is None:
        return Response(status_code=202, headers={"Upload-Offset": str(arrived.offset)})
    service.record_blob(session, store, arrived.digests)
    return Response(status_code=201 if arrived.new else 200)


@worker_router.head("/blobs/{sha256}")
def head_blob(sha256: Sha256, attempt: CurrentAttempt, store: Blobs, session: ReadSession) -> Response:
    """Say whether the server has a blob whose bytes are good: 200, or 404 with the `Upload-Offset` of its pieces."""
    blob = service.find_blob(session, store, sha256)
    if blob is None:
        return Response(status_code=404, headers={"Upload-Offset": str(partial.offset(store, sha256))})
    return Response(headers={"Content-Length": str(blob.size), "ETag": f'"{sha256}"'})


@worker_router.get("/blobs/{sha256}")
def get_blob(request: Request, sha256: Sha256, attempt: CurrentAttempt, store: Blobs, session: ReadSession) -> Response:
    """Send a blob that the attempt may read; Range and conditional requests are honoured."""
    service.check_readable(session, attempt, sha256)
    return download(request, store, sha256)


@worker_router.get("/artifacts/{kind}/{key}")
def get_artifact(kind: Kind, key: Key, attempt: CurrentAttempt, session: ReadSession) -> ArtifactView:
    """Return the artifact under a key, or 404."""
    return service.get_artifact(session, kind, key)


@worker_router.put("/artifacts/{kind}/{key}")
def put_artifact(
    kind: Kind, key: Key, artifact: HashedArtifact, attempt: CurrentAttempt, store: Blobs, session: WriteSession
) -> ArtifactView:
    """Keep an artifact; the answer is the one that stands."""
    return service.put_artifact(session, store, kind, key, artifact)
