"""Live updates over REST, as server-sent events."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app import auth
from app.db import reading
from app.jobs import service, stream

router = APIRouter(prefix="/api/v1", tags=["jobs"], dependencies=[Depends(auth.user)])


@router.get("/events", response_class=StreamingResponse)
async def listen(
    request: Request,
    job: Annotated[int | None, Query(ge=1, lt=2**63, description="Only this job; default: all.")] = None,
    seen: Annotated[int | None, Query(ge=1, lt=2**63, description="The job's version that is known already.")] = None,
    last_event_id: Annotated[str | None, Header(description="Id of the last event that was heard.")] = None,
) -> StreamingResponse:
    """Server-sent events: `job` (a JobView) whenever a job changes, `event` (an Event) for each line of its timeline.

    With `job` the stream begins with that job as it is, unless that is the version which was `seen`, the number in its
    ETag. With `Last-Event-ID` it begins with the events missed.
    """
    hub: stream.Hub = request.app.state.hub
    # Listening begins before the first look, so that nothing falls between the two.
    listener = await hub.listen(job)
    try:
        first = await run_in_threadpool(_first, request, job, seen, last_event_id)
    except BaseException:
        hub.forget(listener)
        raise
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream.messages(hub, listener, first), media_type="text/event-stream", headers=headers)


def _first(request: Request, job_id: int | None, seen: int | None, last_event_id: str | None) -> list[stream.Update]:
    updates: list[stream.Update] = []
    with reading(request.app.state.sessions) as session:
        if job_id is not None and service.version(session, job_id) != seen:
            updates += stream.jobs(session, [job_id])
        if last_event_id is not None and last_event_id.isdecimal() and len(last_event_id) < 19:
            updates += stream.missed(session, job_id, int(last_event_id))
    return updates
