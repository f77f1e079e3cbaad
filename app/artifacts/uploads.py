"""A file that comes with a name and an engine: in a form, as a bare body with query parameters, or uploaded before."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field, TypeAdapter, ValidationError

from app.artifacts import waiting
from app.artifacts.forms import receive_form
from app.artifacts.store import BlobStore, Digests
from app.artifacts.transfer import fill, upload_limit
from app.engines import registry
from app.errors import Invalid
from app.wire.datasets import NAME_PATTERN
from app.wire.problems import Problem
from app.wire.uploads import UPLOAD_PATTERN

_NAME = TypeAdapter(Annotated[str, Field(pattern=NAME_PATTERN)])


@dataclass(frozen=True)
class Upload:
    """An uploaded file, on disk and hashed but not looked at. It is gone when the request is over, unless kept."""

    name: str
    engine: str
    file_name: str
    path: Path
    """In the store's scratch directory."""
    digests: Digests
    fields: Mapping[str, str]
    """Every field, those above included."""


@asynccontextmanager
async def receive_upload(request: Request, store: BlobStore, what: str) -> AsyncIterator[Upload]:
    """Receive a file and its fields. `what` it is stands in messages: "a dataset".

    With a field `upload` there is no body: the file was uploaded in pieces before.

    Raises:
        Invalid: it has no good name, no known engine, or comes in no form that is understood.
        TooLarge, UploadInterrupted, UploadIncomplete, DigestMismatch: as the receiving functions say.
    """
    with ExitStack() as stack:
        if request.headers.get("content-type", "").startswith("multipart/"):
            form = await receive_form(request, store, stack)
            file = form.file("file")
            file_name, fields = file.file_name, form.fields
            _check(fields, what)
            path, digests = file.incoming.path, await run_in_threadpool(file.incoming.finish)
        else:
            fields = dict(request.query_params)
            _check(fields, what)  # what is wrong with them is said before gigabytes are received
            file_name = fields.get("filename", "upload")
            path, digests = await _body(request, store, stack, fields.get("upload"))
        engine = fields.get("engine") or registry.of_file(file_name)
        yield Upload(fields["name"], engine, file_name, path, digests, fields)


async def _body(request: Request, store: BlobStore, stack: ExitStack, upload: str | None) -> tuple[Path, Digests]:
    """Return the file that is the request's body, or the one that was uploaded before."""
    if upload is not None:
        return await run_in_threadpool(stack.enter_context, waiting.used(store, upload))
    incoming = stack.enter_context(store.receive(upload_limit(request)))
    await fill(incoming, request.stream())
    return incoming.path, await run_in_threadpool(incoming.finish)  # to wait for the disk takes its time


def _check(fields: Mapping[str, str], what: str) -> None:
    problems = []
    engine = fields.get("engine") or registry.FIRST
    try:
        _NAME.validate_python(fields.get("name"))
    except ValidationError:
        message = f"{what.capitalize()} needs a `name` that matches {NAME_PATTERN}, not {fields.get('name')!r}."
        hint = "Use lower-case letters, digits, dots, dashes and underscores, beginning with a letter or digit."
        problems.append(Problem(code="bad-name", message=message, pointer="/name", hint=hint))
    if registry.get(engine) is None:
        problems.append(Problem(code="unknown-engine", message=f"There is no engine {engine!r}.", pointer="/engine"))
    upload = fields.get("upload")
    if upload is not None and not re.fullmatch(UPLOAD_PATTERN, upload):
        message = f"{upload!r} is no upload: it is called SHA256-SIZE."
        problems.append(Problem(code="bad-upload", message=message, pointer="/upload"))
    if problems:
        raise Invalid(problems)


def body_schema(**fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what OpenAPI says of such an upload, with more fields than its name and engine."""
    properties = {
        "name": {"type": "string", "pattern": NAME_PATTERN},
        "engine": {"type": "string", "description": "Left out: by the file's name, else the first."},
        **fields,
        "file": {"type": "string", "format": "binary"},
    }
    form = {"type": "object", "required": ["name", "file"], "properties": properties}
    content = {
        "multipart/form-data": {"schema": form},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    }
    words = "Not with `?upload=SHA256-SIZE`, which names a file that was uploaded in pieces."
    return {"requestBody": {"description": words, "content": content}}
