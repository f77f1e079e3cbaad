"""Messages that name blobs: these are hashed, where that is due, before the route gets one of the few sessions that write."""

from collections.abc import Iterable
from functools import partial as bind
from typing import Annotated

from fastapi import Depends, Request

from app.apart import apart
from app.artifacts.store import Blobs, BlobStore
from app.auth import CurrentAttempt
from app.wire.worker import ArtifactPut, CheckpointPut, JobFilePut


async def _checkpoint(request: Request, message: CheckpointPut, _: CurrentAttempt, store: Blobs) -> CheckpointPut:
    await apart(request, "blobs", bind(_hash, store, [file.sha256 for file in message.files]))
    return message


async def _file(request: Request, message: JobFilePut, _: CurrentAttempt, store: Blobs) -> JobFilePut:
    await apart(request, "blobs", bind(_hash, store, [message.sha256]))
    return message


async def _artifact(request: Request, artifact: ArtifactPut, _: CurrentAttempt, store: Blobs) -> ArtifactPut:
    await apart(request, "blobs", bind(_hash, store, [artifact.blob_sha256]))
    return artifact


def _hash(store: BlobStore, digests: Iterable[str]) -> None:
    """Let the store know these blobs. What is wrong with one is said by the route, which asks again."""
    for sha256 in digests:
        store.intact(sha256)


# A route names one of these before its session: the order is the one in which they are made.
HashedCheckpoint = Annotated[CheckpointPut, Depends(_checkpoint)]
HashedFile = Annotated[JobFilePut, Depends(_file)]
HashedArtifact = Annotated[ArtifactPut, Depends(_artifact)]
