"""Jobs in state `checking`: they wait for a worker to list their model's tensors, and are planned when it has."""

import logging

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.engines import registry
from app.jobs import planning, transitions
from app.models import service as models
from app.tables import BaseModel, Errand, Job
from app.wire.models import Inventory
from app.wire.problems import Problem
from app.wire.resolution import Origin
from app.wire.submission import Start
from app.wire.transfer import TransferPlan

log = logging.getLogger(__name__)


def settle(session: Session, errand: Errand) -> int:
    """Queue, or fail with all the reasons, every job that waits for this errand, which has ended; return how many."""
    waiting = Job.inventory_errand_id == errand.id, Job.state.in_(("checking", "paused"))
    jobs = [job for job in session.scalars(select(Job).where(*waiting).order_by(Job.id)) if job.plan is None]
    tensors = planning.tensors(errand) if jobs else None
    of_group: dict[int | None, TransferPlan | list[Problem]] = {}
    for job in jobs:
        assert tensors is not None
        outcome = of_group.get(job.group_id)
        if outcome is None:
            outcome = [tensors] if isinstance(tensors, Problem) else _planned(session, job, tensors)
        if job.group_id is not None:  # replicas differ in their seeds, on which no plan depends
            of_group[job.group_id] = outcome
        if isinstance(outcome, list):
            transitions.fail_check(session, job.id, outcome)
        else:
            transitions.pass_check(session, job.id, outcome)
    return len(jobs)


def _planned(session: Session, job: Job, tensors: Inventory) -> TransferPlan | list[Problem]:
    engine, row = registry.get(job.engine), session.get_one(BaseModel, job.base_model_id)
    assert engine is not None, f"job {job.id} is for the unknown engine {job.engine}"
    origins = {at: Origin.model_validate(origin) for at, origin in job.origins.items()}
    try:
        return engine.plan(job.resolved, origins, Start.model_validate(job.start), models.base(row), tensors)
    except Exception:  # a mistake of ours in one plan: the worker's answer and the other jobs must not be lost with it
        log.exception("the plan of job %s could not be made", job.id)
        message = "the transfer plan could not be made: a mistake of Cairn's; the server's log has more"
        return [Problem(code="internal", message=message, pointer="/start", hint="Please report it.")]
