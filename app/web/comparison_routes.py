"""Two jobs side by side, and running one again."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from app.artifacts.store import Blobs
from app.auth import CurrentUser
from app.db import ReadSession, reading, transaction
from app.jobs import measurements, provenance, reproduction, service
from app.jobs.comparison_reading import compare
from app.web.jobs_routes import JobId
from app.web.pages import ComparePage
from app.web.render import render
from app.wire.comparison import Reproduce

router = APIRouter(include_in_schema=False)


@router.get("/jobs/{left}/diff/{right}")
def show_comparison(
    request: Request, _: CurrentUser, session: ReadSession, store: Blobs, left: JobId, right: JobId
) -> Response:
    """What two jobs differ in: their runs and their configurations."""
    first, second = service.get(session, left), service.get(session, right)
    page = ComparePage(
        left=service.detail(session, first),
        right=service.detail(session, second),
        diff=provenance.diff(first, second),
        runs=compare(session, left, right),
        tests=measurements.pairs(session, store, left, right),
    )
    return render(request, page)


@router.post("/jobs/{job_id}/reproduce")
def reproduce(
    request: Request,
    _: CurrentUser,
    store: Blobs,
    job_id: JobId,
    key: Annotated[str, Form(min_length=1, max_length=255)],
    allow_other_versions: Annotated[bool, Form()] = False,
) -> Response:
    """Run a job again from its frozen spec and go to the new job's page; the same key twice makes one job."""
    sessions = request.app.state.sessions
    # Asking a bucket for files may take its time: done before the write lock is taken.
    with reading(sessions) as reader:
        reproduction.check(reader, store, job_id, allow_other_versions=allow_other_versions)
    with transaction(sessions) as session:
        wanted = Reproduce(allow_other_versions=allow_other_versions)
        number = reproduction.create(session, job_id, wanted, key)[0].id
    return RedirectResponse(f"/jobs/{number}", 303)
