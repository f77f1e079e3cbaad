"""What people do with jobs that are there, beside changing their state: rename and reorder them, extend them."""

import hashlib
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.engines.documents import canonical
from app.errors import Conflict, Invalid, Outdated
from app.jobs import service
from app.jobs.beginning import Beginning
from app.jobs.preparation import find_engine
from app.jobs.submission import SubmitRequest
from app.jobs.timeline import tell, touch
from app.tables import Job
from app.wire.base import MAX_NAME
from app.wire.control import Extend, JobChange
from app.wire.problems import Problem
from app.wire.states import FINAL_STATES

PREFIX = "extension of "


def change(session: Session, job_id: int, wanted: JobChange, *, version: int | None, by: str) -> None:
    """Change what may be changed of a job at any time. `version`: only if it is still of this one.

    Raises:
        NotFound: there is no such job.
        Outdated: it has changed since.
    """
    job = service.get(session, job_id)
    session.refresh(job, with_for_update=True)
    if version is not None and job.version != version:
        message = f"job {job_id} has changed since: it is of version {job.version}, not {version}"
        raise Outdated(message, hint="Look at it again.")
    asked = wanted.model_dump(exclude_none=True)
    if "tags" in asked:
        asked["tags"] = list(dict.fromkeys(asked["tags"]))
    changed = {name: (getattr(job, name), value) for name, value in asked.items() if getattr(job, name) != value}
    if not changed:
        return
    values = {name: new for name, (_, new) in changed.items()}
    session.execute(update(Job).where(Job.id == job_id).values(version=Job.version + 1, **values))
    words = "; ".join(f"{name} {_shown(old)} is now {_shown(new)}" for name, (old, new) in changed.items())
    tell(session, job_id, "changed", f"{words} ({by})", data={name: new for name, (_, new) in changed.items()})
    session.refresh(job)


def _shown(value: Any) -> str:
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)


def extend_request(job_id: int, wanted: Extend, key: str | None) -> SubmitRequest:
    """Return the identity of a request to extend a job; `document` is still empty."""
    said = {"extend": job_id, **wanted.model_dump()}
    return SubmitRequest({}, hashlib.sha256(canonical(said).encode()).hexdigest(), key)


def extension(session: Session, job_id: int, wanted: Extend, begin: Beginning) -> dict[str, Any]:
    """Return the submission of a job that goes on where this one ended, as it would be sent. `begin` is this one's next.

    Everything is inherited from its checkpoint, data and seeds as well; only the number of steps is another one.

    Raises:
        NotFound: there is no such job.
        Conflict: `no-training`: it trains nothing. `not-ended`: it still runs, or will. `no-checkpoint`: there is
            nothing to go on from.
        Invalid: it has as many steps already.
    """
    job = service.get(session, job_id)
    if job.kind != "train":
        raise Conflict(f"job {job_id} is a {job.kind} job: only trainings have steps to add", code="no-training")
    if job.state not in FINAL_STATES | {"paused"}:
        message = f"job {job_id} is {job.state}: only a training that is over or paused is extended"
        raise Conflict(message, code="not-ended", hint=f"Pause it first (`cairn pause {job_id}`), or let it end.")
    if begin.kind != "checkpoint":
        message = f"job {job_id} has no good checkpoint to go on from"
        raise Conflict(message, code="no-checkpoint", hint=f"Submit it again: `cairn clone {job_id}`.")
    done = max(job.total_steps, begin.step)
    if wanted.steps <= done:
        message = f"job {job_id} is a training of {done} steps, so it cannot be extended to {wanted.steps}"
        hint = f"Ask for more than {done}; steps are counted from the very beginning."
        raise Invalid([Problem(code="out-of-range", message=message, pointer="/steps", hint=hint)])
    return {
        "config": find_engine(job.engine).longer(wanted.steps),
        "engine": job.engine,
        "name": wanted.name or (PREFIX + job.name.removeprefix(PREFIX))[:MAX_NAME],
        "start": {"mode": "resume", "base": f"job:{job_id}@{begin.step}"},
        "determinism": job.determinism,
        "priority": job.priority,
        "tags": list(job.tags),
        "checkpoints": dict(job.checkpoint_policy),
        "resources": {"gpus": job.gpus},
        # What was measured already is not named any more: then it is what was asked for.
        "test_on": list(job.test_on or job.submitted.get("test_on") or ()),
        "test_at": [step for step in job.test_at or job.submitted.get("test_at") or () if step > begin.step],
        "test_every": job.test_every or job.submitted.get("test_every"),
        "on_existing": wanted.on_existing,
    }


def tell_extended(session: Session, job_id: int, new: Job) -> None:
    """Put on both timelines that one job extends the other."""
    words = f"from step {new.start_step} to {new.total_steps}"
    tell(session, new.id, "extends", f"extends job {job_id} {words}", data={"job": job_id})
    tell(session, job_id, "extended", f"extended by job {new.id}, {words}", data={"job": new.id})
    touch(session, job_id)
