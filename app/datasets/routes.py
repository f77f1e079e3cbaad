"""Datasets over REST: uploaded, registered from a directory, listed, shown, downloaded."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field, TypeAdapter, ValidationError

from app.artifacts.forms import receive_form
from app.artifacts.store import Blobs
from app.artifacts.transfer import download, fill, upload_limit
from app.auth import CurrentUser, user
from app.datasets import service
from app.datasets.ingest import pack_directory
from app.db import ReadSession, WriteSession
from app.engines import registry
from app.errors import Invalid
from app.strict_json import StrictRoute
from app.wire.datasets import NAME_PATTERN, DatasetPage, DatasetView, RegisterDirectory
from app.wire.problems import Problem

router = APIRouter(prefix="/api/v1/datasets", tags=["datasets"], dependencies=[Depends(user)], route_class=StrictRoute)

_NAME = TypeAdapter(Annotated[str, Field(pattern=NAME_PATTERN)])

_FIELDS = {
    "name": {"type": "string", "pattern": NAME_PATTERN},
    "engine": {"type": "string", "default": "deepmd"},
    "type_map": {"type": "string", "description": "Elements, for systems without type_map.raw: `O,H`."},
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "file"],
                    "properties": {**_FIELDS, "file": {"type": "string", "format": "binary"}},
                }
            },
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"},
            },
        },
    }
}


@dataclass(frozen=True)
class Upload:
    """An uploaded dataset, on disk but not looked at."""

    name: str
    path: Path
    file_name: str
    engine: str
    type_map: list[str] | None


async def _upload(request: Request, store: Blobs) -> AsyncIterator[Upload]:
    """Receive a form, or a bare body whose fields are query parameters."""
    with ExitStack() as stack:
        if request.headers.get("content-type", "").startswith("multipart/"):
            form = await receive_form(request, store, stack)
            file = form.file("file")
            file.incoming.finish()
            yield _checked(form.fields, file.incoming.path, file.file_name)
        else:
            fields = dict(request.query_params)
            _checked(fields, Path(), "")  # what is wrong with them is said before gigabytes are received
            incoming = stack.enter_context(store.receive(upload_limit(request)))
            await fill(incoming, request.stream())
            incoming.finish()
            yield _checked(fields, incoming.path, fields.get("filename", "upload"))


def _checked(fields: dict[str, str], path: Path, file_name: str) -> Upload:
    problems = []
    engine = fields.get("engine", "deepmd")
    try:
        _NAME.validate_python(fields.get("name"))
    except ValidationError:
        message = f"A dataset needs a `name` that matches {NAME_PATTERN}, not {fields.get('name')!r}."
        hint = "Use lower-case letters, digits, dots, dashes and underscores, beginning with a letter or digit."
        problems.append(Problem(code="bad-name", message=message, pointer="/name", hint=hint))
    if registry.get(engine) is None:
        problems.append(Problem(code="unknown-engine", message=f"There is no engine {engine!r}.", pointer="/engine"))
    if problems:
        raise Invalid(problems)
    type_map = fields.get("type_map", "").replace(",", " ").split()
    return Upload(fields["name"], path, file_name, engine, type_map or None)


@router.post("", status_code=201, openapi_extra=_BODY)
def upload_dataset(
    request: Request,
    user: CurrentUser,
    upload: Annotated[Upload, Depends(_upload)],
    store: Blobs,
    session: WriteSession,
    response: Response,
) -> DatasetView:
    """Take in a dataset: an archive of deepmd/npy systems, or a file ASE or dpdata reads with energies and forces.

    Multipart with the fields `name` and `file`, or the bare file as the body with `?name=…&filename=…`. Energies are
    in eV, lengths in Å, forces in eV/Å. 201 with the new version; 200 with the version that holds the same content.
    """
    dataset, new = service.ingest_upload(
        session,
        request.app.state.settings,
        store,
        name=upload.name,
        path=upload.path,
        file_name=upload.file_name,
        engine=upload.engine,
        type_map=upload.type_map,
    )
    response.status_code = 201 if new else 200
    return service.view(dataset)


@router.post("/directory", status_code=201)
def register_directory(
    request: Request, body: RegisterDirectory, store: Blobs, session: WriteSession, response: Response
) -> DatasetView:
    """Copy in a directory of the server that lies below CAIRN_DATASET_ROOTS."""
    if registry.get(body.engine) is None:
        raise Invalid(
            [Problem(code="unknown-engine", message=f"There is no engine {body.engine!r}.", pointer="/engine")]
        )
    packed = pack_directory(request.app.state.settings, store, body.path, body.type_map)
    dataset, new = service.register(session, body.name, packed, body.engine)
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
    """Download a version as a tar of deepmd/npy systems."""
    dataset = service.get(session, ref)
    return download(
        request,
        store,
        dataset.blob_sha256,
        file_name=f"{dataset.name}-v{dataset.version}.tar",
        media_type="application/x-tar",
    )
