"""Datasets over REST: uploaded, registered from a directory, listed, shown, downloaded, deleted."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Query, Request, Response

from app.apart import apart
from app.artifacts import service as blobs
from app.artifacts.store import Blobs
from app.artifacts.transfer import download
from app.artifacts.uploads import Upload, body_schema, receive_upload
from app.auth import user
from app.datasets import service
from app.datasets.ingest import Packed, pack_directory, pack_upload
from app.db import ReadSession, WriteSession
from app.engines import registry
from app.errors import Invalid
from app.strict_json import StrictRoute
from app.wire.datasets import DatasetPage, DatasetView, RegisterDirectory
from app.wire.problems import Problem

router = APIRouter(prefix="/api/v1/datasets", tags=["datasets"], dependencies=[Depends(user)], route_class=StrictRoute)

_BODY = body_schema(
    type_map={"type": "string", "description": "Elements, for systems without type_map.raw: `O,H`."},
    form={"type": "string", "description": "`structures`: structures to relax, without labels, in any file ASE reads."},
)


async def _upload(request: Request, store: Blobs) -> AsyncIterator[Upload]:
    async with receive_upload(request, store, "a dataset") as upload:
        yield upload


# Packing takes its time: it is over before the route gets one of the few sessions that write.
async def _packed(request: Request, upload: Annotated[Upload, Depends(_upload)], store: Blobs) -> Packed:
    work = partial(
        pack_upload,
        request.app.state.settings,
        store,
        registry.known(upload.engine),
        upload.path,
        upload.file_name,
        upload.fields.get("type_map", "").replace(",", " ").split() or None,
        upload.fields.get("form", ""),
    )
    return await apart(request, "data", work)


async def _packed_directory(request: Request, body: RegisterDirectory, store: Blobs) -> tuple[str, Packed]:
    engine = registry.get(body.engine or registry.of_file(body.path))
    if engine is None:
        raise Invalid(
            [Problem(code="unknown-engine", message=f"There is no engine {body.engine!r}.", pointer="/engine")]
        )
    work = partial(pack_directory, request.app.state.settings, store, engine, body.path, body.type_map)
    return engine.name, await apart(request, "data", work)


@router.post("", status_code=201, openapi_extra=_BODY)
def upload_dataset(
    upload: Annotated[Upload, Depends(_upload)],
    packed: Annotated[Packed, Depends(_packed)],
    store: Blobs,
    session: WriteSession,
    response: Response,
) -> DatasetView:
    """Take in a dataset, in one of the forms that its engine reads (`GET /api/v1/engines` says which).

    Multipart with the fields `name` and `file`, or the bare file as the body with `?name=…&filename=…`, or no body and
    `?name=…&filename=…&upload=SHA256-SIZE` for a file that was uploaded in pieces. Energies are
    in eV, lengths in Å, forces in eV/Å. 201 with the new version; 200 with the version that holds the same content.
    """
    dataset, new = service.register(session, store, upload.name, packed, upload.engine)
    response.status_code = 201 if new else 200
    return service.view(dataset)


@router.post("/directory", status_code=201)
def register_directory(
    body: RegisterDirectory,
    packed: Annotated[tuple[str, Packed], Depends(_packed_directory)],
    store: Blobs,
    session: WriteSession,
    response: Response,
) -> DatasetView:
    """Copy in a directory of the server that lies below CAIRN_DATASET_ROOTS."""
    engine, found = packed
    dataset, new = service.register(session, store, body.name, found, engine)
    response.status_code = 201 if new else 200
    return service.view(dataset)


@router.get("")
def list_datasets(
    session: ReadSession,
    name: Annotated[str | None, Query(max_length=63, description="Only names that contain this.")] = None,
    cursor: Annotated[str | None, Query(max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DatasetPage:
    """List dataset versions, newest first."""
    return service.listed(session, name=name, cursor=cursor, limit=limit)


@router.get("/{ref}")
def show_dataset(ref: str, session: ReadSession) -> DatasetView:
    """Show a version by id, `NAME` (the newest) or `NAME@VERSION`."""
    return service.view(service.get(session, ref))


@router.get("/{ref}/download", response_class=Response, responses={200: {"content": {"application/x-tar": {}}}})
@router.head("/{ref}/download", include_in_schema=False)
def download_dataset(request: Request, ref: str, store: Blobs, session: ReadSession) -> Response:
    """Download a version as a tar of what it holds, in the form in which it is kept."""
    dataset = service.get(session, ref)
    return download(
        request,
        store,
        dataset.blob_sha256,
        file_name=f"{dataset.name}-v{dataset.version}.tar",
        media_type="application/x-tar",
    )


@router.delete("/{ref}", status_code=204)
def delete_dataset(
    request: Request, ref: str, session: WriteSession, store: Blobs, background: BackgroundTasks
) -> None:
    """Delete a version that no job uses. Its reference must name it fully: an id, or `NAME@VERSION`."""
    dropped = service.delete(session, service.get_exactly(session, ref))
    background.add_task(blobs.sweep, request.app.state.sessions, store, dropped)
