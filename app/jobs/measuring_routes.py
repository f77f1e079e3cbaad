"""What was measured of trainings on held-out data, over REST, and on which data they are to be measured."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from app import auth
from app.artifacts.store import Blobs
from app.db import ReadSession, WriteSession
from app.jobs import measurements, measuring, service
from app.strict_json import StrictRoute
from app.wire.jobs import JobDetail
from app.wire.measuring import Measured, MeasuredPair, MeasureOn
from app.wire.problems import ErrorBody

router = APIRouter(
    prefix="/api/v1/jobs",
    tags=["jobs"],
    route_class=StrictRoute,
    dependencies=[Depends(auth.user)],
    responses={code: {"model": ErrorBody} for code in (401, 404, 409, 422)},
)

JobId = Annotated[int, Path(ge=1, lt=2**63)]


@router.get("/{job_id}/tests")
def list_tests(job_id: JobId, session: ReadSession, store: Blobs) -> list[Measured]:
    """The errors of a training's checkpoints on data, as jobs of their own measured them, newest job first."""
    service.version(session, job_id)
    return measurements.of_training(session, store, job_id)


@router.get("/{left}/tests/{right}")
def compare_tests(left: JobId, right: JobId, session: ReadSession, store: Blobs) -> list[MeasuredPair]:
    """The errors of two trainings on the same data, side by side: of each the newest checkpoint tested, and all of equal steps."""
    for job_id in (left, right):
        service.version(session, job_id)
    return measurements.pairs(session, store, left, right)


@router.put("/{job_id}/test-on")
def name_test_data(job_id: JobId, body: MeasureOn, session: WriteSession) -> JobDetail:
    """Say on which data a training is tested: its last checkpoint once it has completed, chosen ones once they are there."""
    measuring.name_data(session, job_id, body)
    session.flush()
    return service.detail(session, service.get(session, job_id))
