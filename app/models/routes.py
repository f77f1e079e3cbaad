"""Base models over REST: uploaded, promoted from checkpoints, listed, shown, downloaded, deleted."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Query, Request, Response
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import service as blobs
from app.artifacts.store import Blobs
from app.artifacts.transfer import download
from app.artifacts.uploads import Upload, body_schema, receive_upload
from app.auth import user
from app.datasets.ingest import safe_name
from app.db import ReadSession, WriteSession, reading, transaction
from app.errands import service as errands
from app.errors import Invalid
from app.models import service
from app.strict_json import StrictRoute
from app.tables import BaseModel
from app.wire.models import ModelDetail, ModelPage, ModelState, ModelView, Promote
from app.wire.problems import ErrorBody, Problem

router = APIRouter(
    prefix="/api/v1/models",
    tags=["models"],
    route_class=StrictRoute,
    dependencies=[Depends(user)],
    responses={code: {"model": ErrorBody} for code in (401, 404, 409, 422)},
)

Wait = Annotated[float, Query(ge=0, le=30, description="Seconds to wait for its inspection.")]


async def _upload(request: Request, store: Blobs) -> AsyncIterator[Upload]:
    async with receive_upload(request, store, "a base model") as upload:
        yield upload


@router.post("", status_code=201, openapi_extra=body_schema(), responses={200: {"model": ModelView}})
def upload_model(
    request: Request, response: Response, upload: Annotated[Upload, Depends(_upload)], store: Blobs, wait: Wait = 0
) -> ModelView:
    """Take in a file of weights to start from: 201 with the new version, 200 with the one that holds the same bytes.

    Multipart with the fields `name` and `file`, or the bare file as the body with `?name=…&filename=…`, or no body and
    `?name=…&filename=…&upload=SHA256-SIZE` for a file that was uploaded in pieces. A worker then
    looks into it: `state` goes from `inspecting` to `ready`, or to `refused` with the reason in `problem`. A refused
    version is kept, so that the reason can be read, but nothing starts from it.
    """
    if not upload.digests.size:
        raise Invalid([_empty(upload.file_name)])
    digests, name = upload.digests, safe_name(upload.file_name)
    store.place(upload.path, digests)
    # A transaction of its own, that others need not wait while this request waits for a worker.
    with transaction(request.app.state.sessions) as session:
        model, new = service.register(
            session, store,
            name=upload.name, digests=digests, file_name=name, source=f"upload {name}", engine=upload.engine,
        )  # fmt: skip
    return _answer(request, response, model, new=new, wait_s=wait)


def _empty(file_name: str) -> Problem:
    return Problem(
        code="empty-file",
        message=f"The file {file_name} is empty.",
        pointer="/file",
        hint="Was the training still writing it? Send a whole file.",
    )


@router.post("/promote", status_code=201, responses={200: {"model": ModelView}})
def promote_checkpoint(request: Request, response: Response, body: Promote, store: Blobs, wait: Wait = 0) -> ModelView:
    """Make a base model of a job's checkpoint: 201 with the new version, 200 with the one that holds the same bytes.

    It stays when the job's retention drops the checkpoint. Without a name it is called `job-ID`.
    """
    sessions = request.app.state.sessions
    with reading(sessions) as reader:
        _, file = service.checkpoint_file(reader, body.job, body.step)
    store.verify(file.blob_sha256)  # may hash a large file: done before the write lock is taken
    with transaction(sessions) as session:
        model, new = service.promote(session, store, body.job, body.step, body.name)
    return _answer(request, response, model, new=new, wait_s=wait)


def _answer(request: Request, response: Response, model: BaseModel, *, new: bool, wait_s: float) -> ModelView:
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/api/v1/models/{model.name}@{model.version}"
    sessions = request.app.state.sessions
    _await(sessions, model, wait_s)
    with reading(sessions) as session:
        return service.view(service.get(session, f"{model.name}@{model.version}"))


def _await(sessions: sessionmaker[Session], model: BaseModel, wait_s: float) -> None:
    """Wait until a model's inspection is over, at most so long."""
    if model.state != "inspecting" or not wait_s:
        return
    with reading(sessions) as session:
        errand = service.inspection(session, model)
    if errand is not None:
        errands.wait(sessions, errand.id, wait_s)


@router.get("")
def list_models(
    session: ReadSession,
    name: Annotated[str | None, Query(max_length=63, description="Only names that contain this.")] = None,
    state: Annotated[list[ModelState], Query(description="May be given several times.")] = [],  # noqa: B006 - FastAPI copies it
    cursor: Annotated[str | None, Query(max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ModelPage:
    """List versions of base models, newest first."""
    return service.listed(session, name=name, states=state, cursor=cursor, limit=limit)


@router.get("/{ref}")
def show_model(request: Request, ref: str, wait: Wait = 0) -> ModelDetail:
    """Show a version by id, `NAME` (the newest that was not refused), `NAME@VERSION` or `job:ID[@STEP]`."""
    sessions = request.app.state.sessions
    with reading(sessions) as session:
        model = service.get(session, ref)
    _await(sessions, model, wait)
    with reading(sessions) as session:
        return service.detail(session, service.get(session, f"{model.name}@{model.version}"))


@router.get("/{ref}/file", response_class=Response, responses={200: {"content": {"application/octet-stream": {}}}})
@router.head("/{ref}/file", include_in_schema=False)
def download_model(request: Request, ref: str, store: Blobs, session: ReadSession) -> Response:
    """Download a version, byte for byte as it came, under its file's name."""
    model = service.get(session, ref)
    return download(request, store, model.blob_sha256, file_name=model.file_name)


@router.delete("/{ref}", status_code=204)
def delete_model(request: Request, ref: str, session: WriteSession, store: Blobs, background: BackgroundTasks) -> None:
    """Delete a version from which no job starts. Its reference must name it fully: an id, or `NAME@VERSION`."""
    dropped = service.delete(session, service.get_exactly(session, ref))
    background.add_task(blobs.sweep, request.app.state.sessions, store, dropped)
