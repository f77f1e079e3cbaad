"""What people do with jobs that are there, over REST: pause, resume, retry, change, extend."""

import re
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Request, Response

from app import auth
from app.artifacts.store import Blobs
from app.db import WriteSession, reading
from app.errors import Outdated
from app.jobs import beginning, control, intake, preparation, service, submission, transitions
from app.jobs.reading import IdempotencyKey
from app.jobs.routes import answered, etag
from app.strict_json import StrictRoute
from app.wire.control import Extend, JobChange, Retry, Why
from app.wire.jobs import JobDetail, JobView
from app.wire.problems import ErrorBody
from app.wire.submission import JobSubmit

router = APIRouter(
    prefix="/api/v1/jobs",
    tags=["jobs"],
    route_class=StrictRoute,
    dependencies=[Depends(auth.user)],
    responses={code: {"model": ErrorBody} for code in (401, 404, 409, 422)},
)

JobId = Annotated[int, Path(ge=1, lt=2**63)]
IfMatch = Annotated[str | None, Header(max_length=200, description="Only if the job still has this `ETag`.")]


@router.post("/{job_id}/pause")
def pause_job(job_id: JobId, user: auth.CurrentUser, session: WriteSession, body: Why | None = None) -> JobView:
    """Pause a job: one that waits leaves the queue, one that runs stops after a checkpoint. It keeps its checkpoints."""
    transitions.pause(session, job_id, reason=_reason(body, f"paused by {user.name}"))
    return service.view(service.get(session, job_id))


@router.post("/{job_id}/resume")
def resume_job(job_id: JobId, user: auth.CurrentUser, session: WriteSession, body: Why | None = None) -> JobView:
    """Put a paused job back into the queue; it goes on from its newest checkpoint."""
    transitions.resume(session, job_id, reason=_reason(body, f"resumed by {user.name}"))
    return service.view(service.get(session, job_id))


def _reason(body: Why | None, default: str) -> str:
    return (body.reason if body else None) or default


@router.post("/{job_id}/retry")
def retry_job(
    job_id: JobId,
    user: auth.CurrentUser,
    request: Request,
    session: WriteSession,
    store: Blobs,
    body: Retry | None = None,
) -> JobView:
    """Queue a failed or cancelled job again, from its newest good checkpoint.

    A job that failed for its configuration or its data would fail again: it needs `force`.
    """
    # Looking for the checkpoint may hash files: done before this request takes the write lock.
    with reading(request.app.state.sessions) as reader:
        begin = beginning.find(reader, store, job_id)
    force = body is not None and body.force
    transitions.retry(session, job_id, begin, force=force, reason=f"retried by {user.name}")
    return service.view(service.get(session, job_id))


@router.patch("/{job_id}", responses={412: {"model": ErrorBody}})
def change_job(
    job_id: JobId,
    body: JobChange,
    response: Response,
    user: auth.CurrentUser,
    session: WriteSession,
    if_match: IfMatch = None,
) -> JobView:
    """Change a job's name, priority or tags, whatever its state. Files keep the names that they have."""
    control.change(session, job_id, body, version=_version(job_id, if_match), by=user.name)
    job = service.get(session, job_id)
    response.headers["ETag"] = etag(job_id, job.version)
    return service.view(job)


def _version(job_id: int, if_match: str | None) -> int | None:
    """Return the version that an `If-Match` names; None when any will do."""
    if if_match in (None, "*"):
        return None
    found = re.fullmatch(rf'"job-{job_id}-(\d{{1,18}})"', if_match or "")
    if found is None:
        raise Outdated(f"{if_match} is no ETag of job {job_id}", hint=f"`GET /api/v1/jobs/{job_id}` answers with one.")
    return int(found[1])


@dataclass(frozen=True)
class Ready:
    """An extension that may be stored; `prepared` is None when its idempotency key is known."""

    identity: submission.SubmitRequest
    prepared: preparation.Prepared | None


def _made_ready(
    job_id: JobId, body: Extend, request: Request, store: Blobs, idempotency_key: IdempotencyKey = None
) -> Ready:
    """Do all that takes its time, before the route gets one of the few sessions that write."""
    state = request.app.state
    identity = control.extend_request(job_id, body, idempotency_key)
    with reading(state.sessions) as session:
        if submission.find_repeated(session, identity) is not None:
            return Ready(identity, None)
        begin = beginning.find(session, store, job_id)
        document = control.extension(session, job_id, body, begin)
    submit = JobSubmit.model_validate(document)
    prepared = preparation.prepare(state.sessions, state.settings, store, submit)
    intake.foresee(state.sessions, store, prepared)  # hashes now what is looked at again under the write lock
    return Ready(replace(identity, document=document), prepared)


@router.post("/{job_id}/extend", status_code=201, responses={200: {"model": JobDetail}})
def extend_job(
    job_id: JobId,
    request: Request,
    response: Response,
    ready: Annotated[Ready, Depends(_made_ready)],
    session: WriteSession,
    store: Blobs,
) -> JobDetail:
    """Train on to more steps, as a new job that resumes this one's newest good checkpoint. 200 for a repeated key.

    Everything is taken over, data and seeds as well. What depends on the number of steps, such as DeePMD's learning
    rate, is derived anew; origins and warnings of the new job say so. When the same extension is here already,
    `on_existing` decides, as for a submission.
    """
    if ready.prepared is None:
        answer = intake.known(session, ready.identity)
    else:
        answer = intake.accept(session, store, ready.prepared, ready.identity)
    if answer.new:
        control.tell_extended(session, job_id, answer.job)
        session.flush()
    return answered(request, session, response, answer)
