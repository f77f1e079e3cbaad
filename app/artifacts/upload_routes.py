"""Uploads in pieces over REST: how far one is, and its next piece. What is made of it is for the routes of datasets, models and jobs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request

from app.artifacts import partial, waiting
from app.artifacts.store import Blobs
from app.artifacts.transfer import ReceivedBody, upload_limit
from app.auth import user
from app.wire.problems import ErrorBody
from app.wire.uploads import UPLOAD_PATTERN, UploadView

router = APIRouter(
    prefix="/api/v1/uploads",
    tags=["uploads"],
    dependencies=[Depends(user)],
    responses={code: {"model": ErrorBody} for code in (401, 409, 422)},
)

Upload = Annotated[
    str, Path(pattern=UPLOAD_PATTERN, description="The SHA-256 and the size of the whole file: `SHA256-SIZE`.")
]


@router.get("/{upload}")
def show_upload(upload: Upload, store: Blobs) -> UploadView:
    """How much of a file has arrived in pieces: nothing, if nobody ever sent one."""
    return waiting.look(store, upload)


@router.put("/{upload}")
def put_piece(
    request: Request,
    upload: Upload,
    body: ReceivedBody,
    store: Blobs,
    content_range: Annotated[str, Header(description="`bytes 0-8388607/104857600`.")],
) -> UploadView:
    """Append the next piece, which is the body. 409 `upload-offset` when it does not begin where the one before ended.

    A piece of which not all arrived is nothing: ask how much is there and go on. What is whole waits for a day.
    """
    return waiting.append(store, upload, partial.Piece.parse(content_range, upload_limit(request)), body)
