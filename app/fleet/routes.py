"""The workers over REST."""

from fastapi import APIRouter, Depends, Request

from app import auth
from app.db import ReadSession
from app.fleet import service
from app.wire.system import WorkerView

router = APIRouter(prefix="/api/v1", tags=["workers"], dependencies=[Depends(auth.user)])


@router.get("/workers")
def list_workers(request: Request, session: ReadSession) -> list[WorkerView]:
    """The worker processes, those heard of last first."""
    return service.listed(session, request.app.state.settings)
