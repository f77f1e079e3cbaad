"""Reading a submission off the wire: JSON, or a multipart form with a config and data files."""

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.types import Message

from app import strict_json
from app.artifacts.transfer import too_large, upload_limit
from app.engines.documents import canonical
from app.errors import AppError, Invalid, TooLarge
from app.jobs.submission import SubmitRequest
from app.jobs.uploads import DataFile
from app.settings import Settings
from app.validation import problems_of
from app.wire.problems import Problem
from app.wire.submission import JobSubmit
from app.wire.uploads import UploadedData

PLAIN_FIELDS = frozenset({"name", "engine", "kind", "determinism"})
"""Form fields that are taken as they are; all others are JSON."""


_UPLOADS = TypeAdapter(list[UploadedData])


@dataclass(frozen=True)
class Sent:
    """A submission, and the data files that came with it or before it."""

    document: dict[str, Any]
    files: Sequence[DataFile]


class UnsupportedMedia(AppError):
    """Neither JSON nor a form."""

    status = 415
    code = "unsupported-media-type"


async def read_submission(request: Request) -> AsyncIterator[Sent]:
    """Yield what was sent; FastAPI runs this before the route, without any database connection."""
    settings: Settings = request.app.state.settings
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        document = _object(strict_json.loads(await _limited(request, settings.max_config_bytes)))
        yield Sent(document, _uploaded(document))
    elif kind == "multipart/form-data":
        body = _counted(request, upload_limit(request))
        async with body.form(max_files=100, max_fields=100, max_part_size=settings.max_config_bytes) as form:
            files = [item for item in form.getlist("data") if isinstance(item, UploadFile)]
            document = await _form_document(form, settings.max_config_bytes)
            yield Sent(document, [*files, *_uploaded(document)])
    else:
        raise UnsupportedMedia(
            f"a submission is application/json or multipart/form-data, not {kind or 'without a type'}",
            hint="curl: -H 'Content-Type: application/json' --data @job.json, or -F config=@input.json -F data=@cu.tgz",
        )


Submission = Annotated[Sent, Depends(read_submission, scope="function")]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="The same key and body again return the job of the first time."),
]


def _uploaded(document: dict[str, Any]) -> list[UploadedData]:
    """Take what was uploaded before out of a document: it says how the data come, not what the job is."""
    try:
        return _UPLOADS.validate_python(document.pop("uploads", []))
    except ValidationError as error:
        problems = problems_of(error.errors(include_url=False))
        raise Invalid(
            [one.model_copy(update={"pointer": f"/uploads{one.pointer or ''}"}) for one in problems]
        ) from None


def validated(sent: Sent) -> JobSubmit:
    """Return the submission as a message.

    Raises:
        Invalid: unknown, missing or mistyped keys, all of them.
    """
    try:
        return JobSubmit.model_validate(sent.document)
    except ValidationError as error:
        problems = problems_of(error.errors(include_url=False))
        if "config" not in sent.document and {"model", "training"} & set(sent.document):
            hint = 'This looks like the input document itself: send {"config": …} around it.'
            problems = [problem.model_copy(update={"hint": hint}) for problem in problems]
        raise Invalid(problems) from None


def identified(sent: Sent, key: str | None) -> SubmitRequest:
    """Return a submission with the digest over all that was sent, data files included."""
    digest = hashlib.sha256(canonical(sent.document).encode())
    for file in sent.files:
        digest.update(f"\0{file.filename}\0".encode())
        digest.update(_content_digest(file))
    return SubmitRequest(document=sent.document, digest=digest.hexdigest(), key=key)


def _content_digest(file: DataFile) -> bytes:
    if isinstance(file, UploadedData):
        return bytes.fromhex(file.upload.partition("-")[0])
    content = hashlib.sha256()
    file.file.seek(0)
    while chunk := file.file.read(1 << 20):
        content.update(chunk)
    file.file.seek(0)
    return content.digest()


async def _limited(request: Request, limit: int) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise TooLarge(
                f"the submission is larger than {limit} bytes", hint="CAIRN_MAX_CONFIG_BYTES sets the limit."
            )
    return bytes(data)


def _counted(request: Request, limit: int) -> Request:
    """Return the request with a body that ends in an error beyond `limit` bytes, whatever length it announced."""
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise too_large(limit)
        return message

    return Request(request.scope, receive)


async def _form_document(form: FormData, limit: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name == "data":
            continue
        text = await _text(name, value, limit)
        if name == "submission":
            document = _object(strict_json.loads(text, "the field `submission`")) | document
        elif name in PLAIN_FIELDS:
            document[name] = text.decode(errors="replace")
        elif name == "tags":
            document.setdefault("tags", []).append(text.decode(errors="replace"))
        else:
            document[name] = strict_json.loads(text, f"the field `{name}`")
    return document


async def _text(name: str, value: UploadFile | str, limit: int) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    data = await value.read(limit + 1)
    if len(data) > limit:
        raise TooLarge(f"the field `{name}` is larger than {limit} bytes")
    return data


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    shown = json.dumps(value)[:40]
    raise Invalid([Problem(code="not-an-object", message=f"a submission is a JSON object, not {shown}", pointer="")])
