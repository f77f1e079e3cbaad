"""Groups over REST."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from app import auth
from app.artifacts.store import Blobs
from app.artifacts.transfer import content_disposition
from app.db import ReadSession, WriteSession
from app.groups import ensemble, metrics, service
from app.jobs import bundle, transitions
from app.jobs.downsampling import MIN_POINTS
from app.jobs.selection import Selection
from app.strict_json import StrictRoute
from app.tables.base import now
from app.wire.groups import GroupActed, GroupAction, GroupDetail, GroupMetrics, GroupPage
from app.wire.problems import ErrorBody

router = APIRouter(
    prefix="/api/v1/groups",
    tags=["groups"],
    route_class=StrictRoute,
    dependencies=[Depends(auth.user)],
    responses={code: {"model": ErrorBody} for code in (401, 404, 409, 422)},
)

JSON_POINTS = 1_000
"""Steps per metric of a JSON answer that does not say how many it wants. CSV gives all of them."""

GroupId = Annotated[int, Path(ge=1, lt=2**63)]


class GroupSelection(Selection):
    """Which metrics of a group, how many steps of them, and in which form."""

    max_points: int | None = Field(
        default=None,
        ge=MIN_POINTS,
        le=1_000_000,
        description=f"Most steps per metric, extremes of the mean kept. Default: {JSON_POINTS} in JSON, all in CSV.",
    )
    format: Literal["json", "csv"] = "json"


@router.get("")
def list_groups(
    session: ReadSession, cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> GroupPage:
    """List groups, newest first."""
    return service.listed(session, cursor=cursor, limit=limit)


@router.get("/{group_id}", response_model=GroupDetail, responses={304: {"description": "Unchanged"}})
def show_group(group_id: GroupId, request: Request, response: Response, session: ReadSession) -> Any:
    """Show a group: its jobs, and each metric's newest values with mean, spread, 95 % interval and outliers."""
    group, tag = service.get(session, group_id), service.etag(session, group_id)
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return service.detail(session, group)


@router.get("/{group_id}/metrics", response_model=GroupMetrics, responses={304: {"description": "Unchanged"}})
def read_group_metrics(
    group_id: GroupId, selection: Annotated[GroupSelection, Query()], request: Request, session: ReadSession
) -> Response:
    """Each metric over steps: mean, spread and 95 % interval over the replicas that have a finite value there."""
    group, tag = service.get(session, group_id), service.etag(session, group_id)
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag})
    job_ids = service.replica_ids(session, group)
    wanted = metrics.wanted(session, job_ids, selection.key_list, selection.from_step, selection.to_step)
    if selection.format == "json":
        found = metrics.read(session, wanted, selection.max_points or JSON_POINTS)
        return Response(metrics.as_json(found), media_type="application/json", headers={"ETag": tag})
    headers = {"ETag": tag, "Content-Disposition": content_disposition(f"group-{group.id}-metrics.csv")}
    body = metrics.csv(request.app.state.sessions, wanted, selection.max_points)
    return StreamingResponse(body, media_type="text/csv", headers=headers)


@router.post("/{group_id}/cancel")
def cancel_group(
    group_id: GroupId, user: auth.CurrentUser, session: WriteSession, body: GroupAction | None = None
) -> GroupActed:
    """Cancel every replica that is not over. Those that run write a last checkpoint first, unless `now`."""
    body = body or GroupAction()
    reason = body.reason or f"group {group_id} cancelled by {user.name}"
    group = service.get(session, group_id)
    return service.act(
        session, group, lambda job_id: transitions.cancel(session, job_id, at_once=body.now, reason=reason)
    )


@router.post("/{group_id}/pause")
def pause_group(
    group_id: GroupId, user: auth.CurrentUser, session: WriteSession, body: GroupAction | None = None
) -> GroupActed:
    """Pause every replica that is not over, after a checkpoint."""
    reason = (body and body.reason) or f"group {group_id} paused by {user.name}"
    group = service.get(session, group_id)
    return service.act(session, group, lambda job_id: transitions.pause(session, job_id, reason=reason))


@router.post("/{group_id}/resume")
def resume_group(
    group_id: GroupId, user: auth.CurrentUser, session: WriteSession, body: GroupAction | None = None
) -> GroupActed:
    """Let every paused replica go on."""
    reason = (body and body.reason) or f"group {group_id} resumed by {user.name}"
    group = service.get(session, group_id)
    return service.act(session, group, lambda job_id: transitions.resume(session, job_id, reason=reason))


@router.get("/{group_id}/ensemble", response_class=StreamingResponse)
def download_ensemble(
    group_id: GroupId,
    session: ReadSession,
    store: Blobs,
    step: Annotated[int | None, Query(ge=0, lt=2**62, description="Of this step; default: each one's newest.")] = None,
) -> StreamingResponse:
    """A checkpoint of every replica as one zip, with `ensemble.json`: which is which, digests, and how to use them."""
    group = service.get(session, group_id)
    files = ensemble.members(session, store, group, step)
    name = f"group-{group.id}-ensemble"
    headers = {"Content-Disposition": content_disposition(f"{name}.zip")}
    pieces = bundle.stream(name, now(), files)
    return StreamingResponse(pieces, media_type="application/zip", headers=headers)
