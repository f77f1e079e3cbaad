"""Base models: the list, one version, and making one of a job's checkpoint."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from app.artifacts.store import Blobs
from app.auth import CurrentUser
from app.db import ReadSession, reading, transaction
from app.engines import registry
from app.models import service
from app.web import tensors, tree
from app.web.data_routes import engines
from app.web.jobs_routes import JobId
from app.web.pages import Architecture, ModelPage, ModelsPage
from app.web.render import render
from app.wire.models import BaseFacts

router = APIRouter(include_in_schema=False)


@router.get("/models")
def show_models(request: Request, _: CurrentUser, session: ReadSession, cursor: str | None = None) -> Response:
    """The base models and the upload form."""
    found = service.listed(session, cursor=cursor or None)
    page = ModelsPage(
        models=found.items,
        engines=engines(),
        older=f"/models?cursor={quote(found.next_cursor)}" if found.next_cursor else None,
        max_upload_bytes=request.app.state.settings.max_upload_bytes,
    )
    return render(request, page)


@router.get("/models/{ref}")
def show_model(request: Request, _: CurrentUser, session: ReadSession, ref: str) -> Response:
    """One version of a base model; without a version in the address, the newest."""
    model = service.detail(session, service.get(session, ref))
    of_that_name = service.listed(session, name=model.name, limit=200).items
    engine = registry.get(model.engine)
    lines = tensors.rows(model.facts.tensors, engine.component) if model.facts and engine else []
    page = ModelPage(
        model=model,
        versions=[other.version for other in of_that_name if other.name == model.name],
        architectures=architectures(model.facts) if model.facts else [],
        tensors=lines,
        components=tensors.components(lines),
    )
    return render(request, page)


def architectures(facts: BaseFacts) -> list[Architecture]:
    """Return the model section of every branch, a line per value."""
    return [Architecture(branch, tree.rows(branch.model, {})) for branch in facts.branches]


@router.post("/jobs/{job_id}/promote")
def promote(
    request: Request, _: CurrentUser, store: Blobs, job_id: JobId, step: Annotated[int, Form(ge=0, lt=2**63)]
) -> Response:
    """Make a base model of a job's checkpoint and go to its page."""
    sessions = request.app.state.sessions
    with reading(sessions) as reader:
        file = service.checkpoint_file(reader, job_id, step)[1]
    store.verify(file.blob_sha256)  # may hash a large file: done before the write lock is taken
    with transaction(sessions) as session:
        model = service.promote(session, store, job_id, step)[0]
        ref = f"{model.name}@{model.version}"
    return RedirectResponse(f"/models/{ref}", 303)
