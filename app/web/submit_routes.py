"""The page on which a job is put together, and the check while typing."""

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from sqlalchemy.orm import Session

from app.artifacts.store import Blobs
from app.auth import CurrentUser
from app.datasets import service as datasets
from app.db import ReadSession
from app.engines import registry
from app.jobs import intake
from app.jobs import service as jobs
from app.jobs.choosing import with_engine
from app.jobs.reading import Submission, validated
from app.models import service as models
from app.web import plan, tree
from app.web.data_routes import engines
from app.web.examples import examples
from app.web.formats import document, literal
from app.web.pages import CheckPart, Offer, SubmitPage
from app.web.render import render, rendered
from app.wire.models import ModelView
from app.wire.submission import JobSubmit, Start

router = APIRouter(include_in_schema=False)

TO_CHOOSE_FROM = 100
"""Datasets and base models that the submit page offers."""
JOBS_TO_CHOOSE_FROM = 50
LONG = 2_000_000
"""Steps of the invitation to resume a training."""


@router.get("/submit")
def show_submit(
    request: Request,
    _: CurrentUser,
    session: ReadSession,
    copied: Annotated[int | None, Query(alias="from", ge=1, lt=2**63)] = None,
    base: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """The page on which a job is put together: empty, as a copy of another, or starting from a base."""
    known = datasets.newest(session, TO_CHOOSE_FROM)
    submit = JobSubmit(config={})
    if copied is not None:
        job = jobs.get(session, copied)
        submit = JobSubmit.model_validate(job.submitted | {"engine": job.engine})
    if base:
        submit = submit.model_copy(update={"start": Start(mode="finetune", base=base)})
    page = SubmitPage(
        engines=engines(),
        datasets=known,
        bases=list(offers(session)),
        examples=examples(registry.ENGINES, known),
        longer={engine.name: literal(engine.longer(LONG)) for engine in registry.ENGINES},
        config=document(submit.config) if submit.config else "",
        options=submit,
        copied_from=copied,
    )
    return render(request, page)


def offers(session: Session) -> Iterable[Offer]:
    """Yield what a job can start from: base models that are ready, and jobs that have got somewhere."""
    for model in models.listed(session, states=["ready"], limit=TO_CHOOSE_FROM).items:
        yield Offer(model.ref, model_words(model), model.branches)
    for job in jobs.listed(session, jobs.Filters(), limit=JOBS_TO_CHOOSE_FROM).items:
        if job.progress.step:
            yield Offer(f"job:{job.id}", f"newest checkpoint of {job.name}, {job.state} at step {job.progress.step:,}")


def model_words(model: ModelView) -> str:
    """Return what a base model is, in a line."""
    elements = " ".join(model.type_map[:8]) + (" …" if len(model.type_map) > 8 else "")
    return ", ".join(filter(None, (model.architecture, elements, model.source)))


@router.post("/submit/check")
def check(request: Request, _: CurrentUser, sent: Submission, store: Blobs) -> dict[str, Any]:
    """Say what a submission would become: HTML for the open page, and what its script has to know of it."""
    state = request.app.state
    submit = with_engine(state.sessions, validated(sent))
    found = intake.check(state.sessions, state.settings, store, submit)
    part = CheckPart(
        check=found,
        rows=tree.rows(found.config, found.origins),
        counts=tree.counts(found.origins),
        parts=plan.parts(found.plan) if found.plan else [],
    )
    return {
        "html": rendered(part),
        "warnings": [warning.model_dump(mode="json") for warning in found.warnings],
        "pending": found.plan_pending is not None,
        "engine": submit.engine,
    }
