"""The workers over REST."""

from fastapi import APIRouter, Depends, Request

from app import auth
from app.db import ReadSession, WriteSession
from app.fleet import service
from app.wire.problems import ErrorBody
from app.wire.system import Drain, WorkerView

router = APIRouter(prefix="/api/v1", tags=["workers"], dependencies=[Depends(auth.user)])


@router.get("/workers")
def list_workers(request: Request, session: ReadSession) -> list[WorkerView]:
    """The worker processes, those heard of last first."""
    return service.listed(session, request.app.state.settings)


@router.post("/workers/{worker_id}/drain", responses={404: {"model": ErrorBody}})
def drain_worker(request: Request, worker_id: str, session: WriteSession, body: Drain | None = None) -> WorkerView:
    """Let a worker finish what it has and take nothing more, or (`drain: false`) take work again."""
    return service.set_drain(session, worker_id, (body or Drain()).drain, request.app.state.settings)
