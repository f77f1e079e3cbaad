"""Jobs over REST."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import StringConstraints
from sqlalchemy.orm import Session

from app import auth
from app.apart import apart
from app.artifacts.store import Blobs, BlobStore
from app.artifacts.transfer import content_disposition, download
from app.db import ReadSession, WriteSession, reading
from app.engines.registry import ENGINES
from app.jobs import (
    bundle,
    checkpoints,
    files,
    intake,
    leaves,
    logs,
    preparation,
    provenance,
    queueing,
    replicas,
    service,
    submission,
    tasks,
    timeline,
    transitions,
    uploads,
)
from app.jobs.choosing import with_engine
from app.jobs.reading import IdempotencyKey, Sent, Submission, identified, validated
from app.strict_json import StrictRoute
from app.wire.base import Message
from app.wire.checkpoints import CheckpointView
from app.wire.jobs import Event, JobDetail, JobFile, JobPage, JobView
from app.wire.problems import ErrorBody
from app.wire.provenance import JobDiff, Provenance
from app.wire.resolution import Check
from app.wire.states import JobKind, JobState
from app.wire.submission import JobSubmit
from app.wire.system import EngineView

router = APIRouter(
    prefix="/api/v1",
    tags=["jobs"],
    route_class=StrictRoute,
    dependencies=[Depends(auth.user)],
    responses={code: {"model": ErrorBody} for code in (401, 404, 409, 422)},
)

JobId = Annotated[int, Path(ge=1, lt=2**63)]
Where = Annotated[str, StringConstraints(max_length=1000)]
Number = Annotated[int | None, Query(alias="attempt", ge=1, lt=2**31, description="Execution; default: the newest.")]

SUBMIT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": JobSubmit.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "config": {"type": "string", "format": "binary", "description": "input.json"},
                        "submission": {"type": "string", "description": "Or the whole submission, as JSON."},
                        "data": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                }
            },
        },
    }
}


class CancelRequest(Message):
    """How to cancel."""

    now: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class Ready:
    """A submission that may be stored; `prepared` is None when its idempotency key is known."""

    identity: submission.SubmitRequest
    prepared: preparation.Prepared | replicas.PreparedGroup | None


async def _made_ready(
    request: Request, sent: Submission, store: Blobs, idempotency_key: IdempotencyKey = None
) -> Ready:
    """Do all that takes its time: taking data in, resolution, waiting for a worker.

    A dependency, so that it is over before the route gets one of the few sessions that write.
    """
    work = partial(_make_ready, request, sent, store, idempotency_key)
    return await (apart(request, "data", work) if sent.files else run_in_threadpool(work))


def _make_ready(request: Request, sent: Sent, store: BlobStore, idempotency_key: str | None) -> Ready:
    state = request.app.state
    submit, identity = with_engine(state.sessions, validated(sent)), identified(sent, idempotency_key)
    with reading(state.sessions) as session:
        if submission.find_repeated(session, identity) is not None:
            return Ready(identity, None)
    if sent.files:
        engine = preparation.find_engine(submit.engine)
        places = uploads.take_in(state.sessions, state.settings, store, sent.files, engine)
        config = uploads.refer(engine, submit.kind, submit.config, places)
        submit = submit.model_copy(update={"config": config})
        identity = identity.with_config(config)
    prepared = intake.prepare(state.sessions, state.settings, store, submit)
    intake.foresee(state.sessions, store, prepared)  # hashes now what is looked at again under the write lock
    return Ready(identity, prepared)


@router.post("/jobs", status_code=201, openapi_extra=SUBMIT_BODY, responses={200: {"model": JobDetail}})
def submit_job(
    request: Request,
    response: Response,
    ready: Annotated[Ready, Depends(_made_ready)],
    session: WriteSession,
    store: Blobs,
) -> JobDetail:
    """Submit a job: 201, or 200 with the job of the first time when the idempotency key is known.

    When the same training is here already, `on_existing` decides: 200 with that job, whose `weight_check` then says
    why; 201 with a new one, which may go on from its checkpoint; or 409.

    As a form: `config` is the input document, each `data` file becomes a dataset, and the config's paths may name the
    systems in them as they lay on your disk. With `replicas` the answer is the first of them, and `Link` names the group.
    """
    if ready.prepared is None:
        return answered(request, session, response, intake.known(session, ready.identity))
    return answered(request, session, response, intake.accept(session, store, ready.prepared, ready.identity))


def answered(request: Request, session: Session, response: Response, answer: intake.Answer) -> JobDetail:
    """Return what is told of the job that answers a submission; status and headers say whether it is new."""
    job = answer.job
    response.status_code = 201 if answer.new else 200
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    if job.group_id is not None:
        response.headers["Link"] = f'</api/v1/groups/{job.group_id}>; rel="group"'
    response.headers["ETag"] = etag(job.id, job.version)
    detail = service.detail(session, job)
    detail.unserved = queueing.unserved(session, job, request.app.state.settings)
    return detail.model_copy(update={"weight_check": answer.reused}) if answer.reused else detail


@router.post("/configs/resolve", openapi_extra=SUBMIT_BODY)
def resolve_config(request: Request, sent: Submission, store: Blobs) -> Check:
    """Say what a submission would become, without submitting it: the same path, the same answers."""
    state = request.app.state
    return intake.check(state.sessions, state.settings, store, with_engine(state.sessions, validated(sent)))


@router.get("/jobs")
def list_jobs(
    session: ReadSession,
    state: Annotated[list[JobState], Query(description="May be given several times.")] = [],  # noqa: B006 - FastAPI copies it
    engine: str | None = None,
    name: Annotated[str | None, Query(description="Part of the name, in any case.")] = None,
    tag: str | None = None,
    group: Annotated[int | None, Query(ge=1, lt=2**63, description="Jobs of this group.")] = None,
    where: Annotated[
        list[Where],
        Query(max_length=20, description=f"On the resolved config: {leaves.EXAMPLES}. Several must all hold."),
    ] = [],  # noqa: B006 - FastAPI copies it
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> JobPage:
    """List jobs, newest first."""
    filters = service.Filters(states=state, engine=engine, name=name, tag=tag, group=group, where=where)
    return service.listed(session, filters, cursor=cursor, limit=limit)


@router.get("/jobs/{job_id}", response_model=JobDetail, responses={304: {"description": "Unchanged"}})
def show_job(job_id: JobId, request: Request, response: Response, session: ReadSession) -> Any:
    """Show a job. With `If-None-Match` an unchanged one costs one row and answers 304."""
    tag = etag(job_id, service.version(session, job_id))
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag})
    job = service.get(session, job_id)
    response.headers["ETag"] = etag(job_id, job.version)
    detail = service.detail(session, job)
    detail.unserved = queueing.unserved(session, job, request.app.state.settings)
    return detail


def etag(job_id: int, version: int) -> str:
    """Return the entity tag of a job's representation."""
    return f'"job-{job_id}-{version}"'


@router.post("/jobs/{job_id}/cancel")
def cancel_job(
    job_id: JobId, user: auth.CurrentUser, session: WriteSession, body: CancelRequest | None = None
) -> JobView:
    """Cancel a job. One that runs writes a last checkpoint first, unless `now`."""
    body = body or CancelRequest()
    reason = body.reason or f"cancelled by {user.name}"
    transitions.cancel(session, job_id, at_once=body.now, reason=reason)
    return service.view(service.get(session, job_id))


@router.get("/jobs/{job_id}/provenance.json")
def download_provenance(job_id: JobId, response: Response, session: ReadSession) -> Provenance:
    """Where a job's config and weights came from, as a file: origins, transfer plan, base, datasets, seeds."""
    response.headers["Content-Disposition"] = content_disposition(f"job-{job_id}-provenance.json")
    return provenance.provenance(session, service.get(session, job_id))


@router.get("/jobs/{job_id}/diff/{other_id}")
def compare_jobs(job_id: JobId, other_id: JobId, session: ReadSession) -> JobDiff:
    """What the resolved configs of two jobs differ in, by value and by origin."""
    return service.diff(session, job_id, other_id)


@router.get("/jobs/{job_id}/events")
def list_events(
    job_id: JobId,
    session: ReadSession,
    after: Annotated[int, Query(ge=0, lt=2**63, description="Only events with a larger id.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> list[Event]:
    """What happened to a job, oldest first."""
    service.version(session, job_id)
    return timeline.events(session, job_id, after=after, limit=limit)


@router.get("/jobs/{job_id}/logs", response_class=PlainTextResponse)
def read_logs(
    job_id: JobId,
    session: ReadSession,
    number: Number = None,
    tail: Annotated[int | None, Query(ge=0, le=100_000, description="Only the last lines.")] = None,
    offset: Annotated[int, Query(ge=0, lt=2**63, description="First byte.")] = 0,
    limit: Annotated[int, Query(ge=1, le=8 << 20, description="Bytes at most.")] = 1 << 20,
) -> Response:
    """The log of an execution as plain text: its last lines, or a range of bytes. `X-Log-Size` is the whole size."""
    attempt = service.find_attempt(session, job_id, number)
    size = attempt.log_size if attempt else 0
    headers = {"X-Log-Size": str(size), "X-Attempt": str(attempt.number if attempt else 0), "Cache-Control": "no-store"}
    if attempt is None:
        return PlainTextResponse(b"", headers=headers)
    if tail is not None:
        return PlainTextResponse(logs.tail(session, attempt.id, size, tail), headers=headers)
    stop = min(size, offset + limit)
    return PlainTextResponse(b"".join(logs.read(session, attempt.id, offset, stop)), headers=headers)


@router.get("/jobs/{job_id}/log.txt", response_class=StreamingResponse)
def download_log(request: Request, job_id: JobId, session: ReadSession) -> StreamingResponse:
    """The logs of all executions of a job, whole, oldest first."""
    service.version(session, job_id)
    headers = {"Content-Disposition": content_disposition(f"job-{job_id}.log")}
    pieces = logs.whole(request.app.state.sessions, job_id)
    return StreamingResponse(pieces, media_type="text/plain; charset=utf-8", headers=headers)


@router.get("/jobs/{job_id}/checkpoints")
def list_checkpoints(job_id: JobId, session: ReadSession) -> list[CheckpointView]:
    """A job's checkpoints, newest step first."""
    service.version(session, job_id)
    return checkpoints.listed(session, job_id)


@router.get("/jobs/{job_id}/checkpoints/{checkpoint_id}/{name}")
@router.head("/jobs/{job_id}/checkpoints/{checkpoint_id}/{name}", include_in_schema=False)
def download_checkpoint(
    request: Request, job_id: JobId, checkpoint_id: JobId, name: str, session: ReadSession, store: Blobs
) -> Response:
    """One file of a checkpoint, verified before it is sent. Range, If-None-Match and If-Range are honoured."""
    file = checkpoints.find_file(session, job_id, checkpoint_id, name)
    return download(request, store, file.blob_sha256, file_name=file.name)


@router.get("/jobs/{job_id}/files")
def list_files(job_id: JobId, session: ReadSession) -> list[JobFile]:
    """Files that a job made beside its checkpoints, by name: `model_devi.out`."""
    service.version(session, job_id)
    return files.listed(session, job_id)


@router.get("/jobs/{job_id}/files/{name}")
@router.head("/jobs/{job_id}/files/{name}", include_in_schema=False)
def download_file(request: Request, job_id: JobId, name: str, session: ReadSession, store: Blobs) -> Response:
    """One of these files, verified before it is sent. Range, If-None-Match and If-Range are honoured."""
    service.version(session, job_id)
    file = files.get(session, job_id, name)
    return download(request, store, file.blob_sha256, file_name=file.name, media_type=file.media_type)


@router.get("/jobs/{job_id}/bundle", response_class=StreamingResponse)
def download_bundle(
    request: Request,
    job_id: JobId,
    session: ReadSession,
    store: Blobs,
    which: Annotated[bundle.Which, Query(alias="checkpoints")] = "latest",
) -> Response:
    """All of a job as one zip: configs, provenance, learning curve, environment, log, timeline, checkpoints."""
    job = service.get(session, job_id)
    members = bundle.members(session, request.app.state.sessions, store, job, which)
    name = f"{job.file_stem}-job{job.id}"
    headers = {"Content-Disposition": content_disposition(f"{name}.zip")}
    return StreamingResponse(
        bundle.stream(name, job.updated_at, members), media_type="application/zip", headers=headers
    )


@router.get("/engines")
def list_engines() -> list[EngineView]:
    """The engines that jobs can be submitted for."""
    return [service.engine_view(engine) for engine in ENGINES]


@router.get("/engines/{name}/schema")
def show_schema(
    name: str, kind: Annotated[JobKind, Query(description="Of the configs of which kind of job.")] = "train"
) -> dict[str, Any]:
    """JSON schema (draft 2020-12) of an engine's config, for editors."""
    engine = service.known_engine(name)
    task = tasks.find(engine, kind)
    return task.document.model_json_schema() if task else engine.schema()
