"""Work on the store as a whole over REST: removing what nothing needs, verifying what is there."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from app.artifacts.store import Blobs
from app.auth import user
from app.db import ReadSession, transaction
from app.errors import NotFound
from app.maintenance import gc, verification
from app.strict_json import StrictRoute
from app.wire.maintenance import Gc, GcReport, VerificationView, Verify
from app.wire.problems import ErrorBody

router = APIRouter(
    prefix="/api/v1/maintenance",
    tags=["maintenance"],
    route_class=StrictRoute,
    dependencies=[Depends(user)],
    responses={code: {"model": ErrorBody} for code in (401, 404, 409, 422)},
)


@router.post("/gc")
def collect_garbage(request: Request, store: Blobs, body: Gc | None = None) -> GcReport:
    """Remove what nothing needs any more, or with `dry_run` say what that is. What is younger than a day stays."""
    return gc.collect(request.app.state.sessions, store, dry_run=(body or Gc()).dry_run)


@router.post("/verify", status_code=202)
def verify_store(request: Request, store: Blobs, body: Verify | None = None) -> VerificationView:
    """Begin to verify every stored file in the background, one run at a time; `GET` follows it."""
    sessions, quick = request.app.state.sessions, (body or Verify()).quick
    with transaction(sessions) as session:
        row = verification.begin(session, quick=quick)
    run = verification.Run(sessions, store, row.id, quick=quick)
    request.app.state.verification = run
    run.start()
    return verification.view(row)


@router.get("/verify")
def show_newest_verification(session: ReadSession) -> VerificationView:
    """The run that was begun last: its progress, or its report."""
    row = verification.newest(session)
    if row is None:
        raise NotFound("the store was never verified", hint="`cairn verify` does it.")
    return verification.view(row)


@router.get("/verify/{verification_id}")
def show_verification(verification_id: Annotated[int, Path(ge=1, lt=2**63)], session: ReadSession) -> VerificationView:
    """A run: its progress, or its report."""
    return verification.view(verification.get(session, verification_id))
