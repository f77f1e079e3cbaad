"""Retention over REST: what a policy would keep, and another policy for a job."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Path, Query, Request
from sqlalchemy.orm import Session

from app import auth
from app.artifacts import service as blobs
from app.artifacts.store import Blobs
from app.db import ReadSession, WriteSession
from app.jobs import checkpoints, retention, service
from app.strict_json import StrictRoute
from app.wire.problems import ErrorBody
from app.wire.retention import Retention, RetentionPlan
from app.wire.submission import CheckpointPolicy

router = APIRouter(
    prefix="/api/v1/jobs/{job_id}/retention",
    tags=["jobs"],
    route_class=StrictRoute,
    dependencies=[Depends(auth.user)],
    responses={code: {"model": ErrorBody} for code in (401, 404, 422)},
)

JobId = Annotated[int, Path(ge=1, lt=2**63)]


@router.get("")
def show_retention(
    job_id: JobId,
    session: ReadSession,
    keep_last: Annotated[int | None, Query(ge=2, lt=2**31)] = None,
    keep_best: Annotated[str | None, Query(max_length=200, description="Empty: not by a metric.")] = None,
    keep_every: Annotated[int | None, Query(ge=0, lt=2**53, description="0: not by the step.")] = None,
) -> RetentionPlan:
    """What is kept of a job's checkpoints and why; with parameters: what would be, under another policy."""
    policy = retention.policy_of(service.get(session, job_id))
    asked = {"keep_last": keep_last, "keep_best": keep_best, "keep_every": keep_every}
    changes = {name: value or None for name, value in asked.items() if value is not None}
    return _plan(session, job_id, policy.model_copy(update=changes))


def _plan(session: Session, job_id: int, policy: CheckpointPolicy) -> RetentionPlan:
    kept, removed, why = retention.plan(session, job_id, policy)
    return RetentionPlan(
        policy=policy,
        kept=[checkpoints.view(row, why[row.id]) for row in kept],
        removed=[checkpoints.view(row) for row in removed],
        size=retention.own_size(session, removed),
    )


@router.put("")
def change_retention(
    request: Request,
    job_id: JobId,
    body: Retention,
    user: auth.CurrentUser,
    session: WriteSession,
    store: Blobs,
    background: BackgroundTasks,
) -> RetentionPlan:
    """Give a job another policy and remove at once what it does not keep; the answer is what was kept and removed."""
    job = service.get(session, job_id)
    policy = retention.policy_of(job).model_copy(update=body.model_dump())
    answer = _plan(session, job_id, policy)
    dropped = retention.set_policy(session, job_id, body, service.known_engine(job.engine), user.name)
    background.add_task(blobs.sweep, request.app.state.sessions, store, dropped)
    return answer
