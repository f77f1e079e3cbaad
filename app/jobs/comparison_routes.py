"""Comparing and reproducing jobs over REST."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from app import auth
from app.artifacts.store import Blobs
from app.db import ReadSession, WriteSession, reading
from app.jobs import reproduction, service
from app.jobs.comparison_reading import compare
from app.jobs.reading import IdempotencyKey
from app.jobs.routes import etag
from app.strict_json import StrictRoute
from app.wire.comparison import Comparison, Reproduce
from app.wire.jobs import JobDetail
from app.wire.problems import ErrorBody

router = APIRouter(
    prefix="/api/v1/jobs",
    tags=["jobs"],
    route_class=StrictRoute,
    dependencies=[Depends(auth.user)],
    responses={code: {"model": ErrorBody} for code in (401, 404, 409, 422)},
)

JobId = Annotated[int, Path(ge=1, lt=2**63)]


@router.get("/{left}/compare/{right}", response_model=Comparison, responses={304: {"description": "Unchanged"}})
def compare_jobs(left: JobId, right: JobId, request: Request, response: Response, session: ReadSession) -> Any:
    """Compare two jobs bit for bit, also while they run: every step, every fingerprint, and what differs between them.

    With `If-None-Match` nothing is compared again unless one of them has changed.
    """
    versions = [service.version(session, job_id) for job_id in (left, right)]
    tag = f'"compare-{left}-{versions[0]}-{right}-{versions[1]}"'
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return compare(session, left, right)


@router.post("/{job_id}/reproduce", status_code=201, responses={200: {"model": JobDetail}})
def reproduce_job(
    job_id: JobId,
    request: Request,
    response: Response,
    session: WriteSession,
    store: Blobs,
    body: Reproduce | None = None,
    idempotency_key: IdempotencyKey = None,
) -> JobDetail:
    """Run a job again from its frozen spec: the same config, data, base, plan and seeds. 200 for a repeated key.

    `GET /jobs/ID/compare/NEW` tells how far it is identical; the verdict comes on its timeline when both have ended.
    """
    wanted = body or Reproduce()
    # Asking a bucket for files may take its time: done before this request takes the write lock.
    with reading(request.app.state.sessions) as reader:
        reproduction.check(reader, store, job_id, allow_other_versions=wanted.allow_other_versions)
    job, new = reproduction.create(session, job_id, wanted, idempotency_key)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    response.headers["ETag"] = etag(job.id, job.version)
    return service.detail(session, job)
