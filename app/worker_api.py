"""The worker protocol, server side: one short function per message. Mirrors `worker/client.py`."""

from dataclasses import dataclass
from functools import partial as bind
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, Path, Query, Request, Response
from sqlalchemy import Select, select
from sqlalchemy.orm import Session, sessionmaker

from app.apart import apart
from app.artifacts import service as blobs
from app.artifacts.hashing import HashedCheckpoint, HashedFile
from app.artifacts.store import Blobs, BlobStore
from app.artifacts.transfer import download
from app.auth import CurrentAttempt, CurrentErrand, CurrentWorker, SentToken
from app.db import ReadSession, Writers, WriteSession, reading, transaction
from app.errands import service as errands
from app.errors import NotFound
from app.fleet import outcomes
from app.fleet import service as fleet
from app.jobs import (
    beginning,
    checkpoints,
    chosen,
    files,
    leases,
    logs,
    queueing,
    retention,
    subjects,
    tidying,
    timeline,
    transitions,
)
from app.jobs import metrics as metrics_store
from app.settings import Settings
from app.strict_json import StrictRoute
from app.tables import Attempt, Blob, Dataset, Errand, Job, JobDataset
from app.wire.checkpoints import CheckpointView
from app.wire.submission import CheckpointPolicy
from app.wire.worker import (
    AttemptEvents,
    Bye,
    Claim,
    ClaimRequest,
    DatasetGrant,
    End,
    EndAnswer,
    ErrandClaim,
    ErrandGrant,
    Heartbeat,
    HeartbeatAnswer,
    Hello,
    LogAnswer,
    Presence,
    PresenceAnswer,
    Reserve,
    ReserveAnswer,
    Welcome,
)

MAX_MESSAGE_BYTES = 64 << 20
"""Largest message. Workers ship metrics and logs in pieces far below this; checkpoints travel as blobs."""

router = APIRouter(prefix="/api/v1/worker", tags=["worker"], route_class=StrictRoute, max_body_size=MAX_MESSAGE_BYTES)

Offset = Annotated[int, Query(ge=0, lt=2**63)]


async def _body(request: Request) -> bytes:
    return await request.body()


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


Bytes = Annotated[bytes, Depends(_body)]
CurrentSettings = Annotated[Settings, Depends(_settings)]


@router.post("/hello")
def hello(message: Hello, _: CurrentWorker, session: WriteSession, settings: CurrentSettings) -> Welcome:
    """A worker process introduces itself."""
    return fleet.introduce(session, message, settings)


@router.post("/presence")
def presence(message: Presence, _: CurrentWorker, sessions: Writers) -> PresenceAnswer:
    """A worker is alive."""
    with transaction(sessions) as session:
        return PresenceAnswer(drain=fleet.note_presence(session, message).drain)


@router.post("/bye", status_code=204)
def bye(message: Bye, _: CurrentWorker, session: WriteSession) -> None:
    """A worker has stopped."""
    fleet.note_stop(session, message.worker_id)


@dataclass(frozen=True)
class _Wanted:
    """What a worker asked for, what it is to be given, and what that begins with."""

    asked: ClaimRequest
    given: ClaimRequest
    begin: beginning.Beginning


# Looking for the checkpoint may hash files: done before the route gets one of the few sessions that write. No new
# checkpoint can appear meanwhile, because a job that waits has no attempt that could register it.
async def _wanted(request: Request, message: ClaimRequest, _: CurrentWorker, store: Blobs) -> _Wanted:
    return await apart(request, "claims", bind(_look, request.app.state.sessions, store, message))


def _look(sessions: sessionmaker[Session], store: BlobStore, asked: ClaimRequest) -> _Wanted:
    with reading(sessions) as session:
        given = queueing.most_urgent(session, fleet.get(session, asked.worker_id), asked)
        return _Wanted(asked, given, beginning.find(session, store, given.job_id))


@router.post("/claim")
def claim(wanted: Annotated[_Wanted, Depends(_wanted)], session: WriteSession, settings: CurrentSettings) -> Claim:
    """A worker takes a job: the one it was rung for, unless a more urgent one waits."""
    blobs.note_damaged(session, wanted.begin.damaged)
    worker = fleet.ready(session, wanted.given.worker_id)
    claimed = transitions.claim(session, worker, wanted.given, wanted.begin, settings)
    if wanted.given != wanted.asked:
        queueing.ring_again(session, wanted.asked)
    return _claim(session, claimed, wanted.begin, settings)


@router.post("/reserve")
def reserve(message: Reserve, _: CurrentWorker, session: WriteSession) -> ReserveAnswer:
    """A worker keeps slots free for a job that takes several; the answer says whether it should go on."""
    worker = fleet.get(session, message.worker_id)
    return ReserveAnswer(wait=not worker.drain and queueing.reserve(session, worker, message))


def _claim(session: Session, claimed: transitions.Claimed, begin: beginning.Beginning, settings: Settings) -> Claim:
    job, attempt = claimed.job, claimed.attempt
    return Claim.model_validate(
        {
            "job_id": job.id,
            "job_name": job.name,
            "kind": job.kind,
            "attempt": attempt.number,
            "attempt_id": attempt.id,
            "token": claimed.token,
            "heartbeat_s": settings.heartbeat_s,
            "lease_s": settings.lease_s,
            "engine": job.engine,
            "config": job.resolved,
            "submitted": job.submitted["config"],
            "seed": job.seed,
            "seeds": job.seeds,
            "determinism": job.determinism,
            "total_steps": job.total_steps,
            "ranks": job.gpus,
            "start": job.start,
            "base": begin.base,
            "plan": begin.plan,
            "resume_from": begin.checkpoint,
            "datasets": [_grant(row) for row in session.scalars(_datasets(job.id))],
            "models": subjects.grants(session, job.id),
            "checkpoints": chosen.for_worker(job, retention.policy_of(job)),
            "file_stem": job.file_stem,
            "next_event_seq": attempt.event_seq + 1,
        }
    )


def _datasets(job_id: int) -> Select[Dataset]:
    return select(Dataset).join(JobDataset).where(JobDataset.job_id == job_id).order_by(Dataset.id)


def _grant(row: Dataset) -> DatasetGrant:
    return DatasetGrant(
        name=row.name, version=row.version, digest=row.digest, blob_sha256=row.blob_sha256, size=row.size
    )


@router.post("/attempts/{attempt_id}/heartbeat")
def heartbeat(message: Heartbeat, sent: SentToken, sessions: Writers, settings: CurrentSettings) -> HeartbeatAnswer:
    """An attempt is alive; the answer says whether it shall stop."""
    with transaction(sessions) as session:
        attempt = leases.hold_by_token(session, sent, settings)
        return leases.heartbeat(session, attempt, message)


@router.post("/attempts/{attempt_id}/metrics", status_code=204)
def metrics(
    seq: Annotated[int, Query(ge=0, lt=2**31)],
    body: Bytes,
    sent: SentToken,
    sessions: Writers,
    settings: CurrentSettings,
) -> None:
    """One batch of metrics; a batch that is there already changes nothing."""
    metrics_store.load_library()  # not while others wait for the database
    with transaction(sessions) as session:
        attempt = leases.hold_by_token(session, sent, settings)
        metrics_store.ingest(session, attempt, seq, body)


@router.post("/attempts/{attempt_id}/logs")
def log(offset: Offset, body: Bytes, sent: SentToken, sessions: Writers, settings: CurrentSettings) -> LogAnswer:
    """The bytes of the log from an offset on; the answer says how many the server has."""
    with transaction(sessions) as session:
        attempt = leases.hold_by_token(session, sent, settings)
        return LogAnswer(size=logs.append(session, attempt, offset, body))


@router.post("/attempts/{attempt_id}/events", status_code=204)
def events(message: AttemptEvents, sent: SentToken, sessions: Writers, settings: CurrentSettings) -> None:
    """Lines for the job's timeline; those that are there already change nothing."""
    with transaction(sessions) as session:
        attempt = leases.hold_by_token(session, sent, settings)
        timeline.append(session, attempt, message.events)


@router.put("/attempts/{attempt_id}/environment", status_code=204)
def environment(
    message: dict[str, Any], attempt: CurrentAttempt, session: WriteSession, settings: CurrentSettings
) -> None:
    """Hardware and library versions of an attempt."""
    leases.hold(session, attempt, settings)
    session.get_one(Attempt, attempt.id).environment = message
    timeline.touch(session, attempt.job_id)


@router.get("/attempts/{attempt_id}/retention")
def policy(attempt: CurrentAttempt, session: ReadSession) -> CheckpointPolicy:
    """Which checkpoints the job keeps, as somebody may have changed it since the claim."""
    job = session.get_one(Job, attempt.job_id)
    return chosen.for_worker(job, retention.policy_of(job))


@router.post("/attempts/{attempt_id}/checkpoints")
def checkpoint(
    request: Request,
    message: HashedCheckpoint,
    attempt: CurrentAttempt,
    session: WriteSession,
    store: Blobs,
    settings: CurrentSettings,
    background: BackgroundTasks,
) -> CheckpointView:
    """A checkpoint whose blobs the server has."""
    leases.hold(session, attempt, settings)
    row = checkpoints.register(session, store, attempt, message)
    dropped = retention.retain(session, attempt.job_id)
    if dropped:
        background.add_task(blobs.sweep, request.app.state.sessions, store, dropped)
    return checkpoints.view(row)


@router.post("/attempts/{attempt_id}/files", status_code=204)
def file(
    request: Request,
    message: HashedFile,
    attempt: CurrentAttempt,
    session: WriteSession,
    store: Blobs,
    settings: CurrentSettings,
    background: BackgroundTasks,
) -> None:
    """A file that the attempt made beside its checkpoints; the server has its blob."""
    leases.hold(session, attempt, settings)
    dropped = files.register(session, store, attempt, message)
    if dropped:
        background.add_task(blobs.sweep, request.app.state.sessions, store, dropped)


@router.post("/attempts/{attempt_id}/end")
def end(
    request: Request,
    message: End,
    attempt: CurrentAttempt,
    session: WriteSession,
    store: Blobs,
    settings: CurrentSettings,
    background: BackgroundTasks,
) -> EndAnswer:
    """A worker proposes how the attempt ended; the answer is what the server made of it.

    What a completed job could have gone on from is removed afterwards, unless it is a training's.
    """
    state = transitions.end(
        session,
        attempt.id,
        message.outcome,
        step=message.step,
        total_steps=message.total_steps,
        cause=message.cause,
        settings=settings,
    )
    if state == "completed":
        background.add_task(tidying.tidy, request.app.state.sessions, store, attempt.job_id)
    return EndAnswer.model_validate({"job_state": state})


@router.post("/errands/{errand_id}/claim")
def claim_errand(
    errand_id: Annotated[int, Path(ge=1, lt=2**63)],
    message: ErrandClaim,
    _: CurrentWorker,
    session: WriteSession,
    settings: CurrentSettings,
) -> ErrandGrant:
    """A worker takes an errand."""
    claimed = errands.claim(session, errand_id, fleet.get(session, message.worker_id), settings)
    errand = claimed.errand
    blob = session.get(Blob, errand.blob_sha256) if errand.blob_sha256 else None
    return ErrandGrant.model_validate(
        {
            "errand_id": errand.id,
            "kind": errand.kind,
            "engine": errand.engine,
            "order": errand.order,
            "blob_sha256": errand.blob_sha256,
            "file_name": errand.file_name,
            "size": blob and blob.size,
            "token": claimed.token,
            "lease_s": settings.errand_s,
        }
    )


@router.get("/errands/{errand_id}/blob")
def errand_blob(request: Request, holder: CurrentErrand, session: ReadSession, store: Blobs) -> Response:
    """Send the file that an errand is about; Range and conditional requests are honoured."""
    sha256 = session.get_one(Errand, holder.id).blob_sha256
    if sha256 is None:
        raise NotFound(f"errand {holder.id} is about no file")
    return download(request, store, sha256)


@router.post("/errands/{errand_id}/result", status_code=204)
def errand_result(body: Bytes, holder: CurrentErrand, session: WriteSession) -> None:
    """What came of an errand. An answer that is not in the agreed form is why it is refused."""
    outcomes.settle(session, errands.finish(session, holder, body))
