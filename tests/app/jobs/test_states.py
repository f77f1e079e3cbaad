"""Whatever people, workers and accidents do in whatever order: a job's state is a legal one, and no job is lost."""

from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import Conflict
from app.jobs import checkpoints, transitions
from app.jobs.beginning import Beginning
from app.settings import Settings
from app.tables import Attempt, Checkpoint, Job, Worker
from app.tables.base import now
from app.wire.jobs import Cause
from app.wire.worker import ClaimRequest

SETTINGS = Settings(data_dir=Path("/nowhere"), max_attempts=2)
KILLED = Cause(failure="killed", message="killed")
WRONG = Cause(failure="data", message="wrong")

LEGAL = {
    "pause": {("queued", "paused"), ("running", "stopping")},
    "resume": {("paused", "queued")},
    "cancel": {("queued", "cancelled"), ("paused", "cancelled"), ("running", "stopping"), ("stopping", "stopping")},
    "cancel now": {("queued", "cancelled"), ("paused", "cancelled"), ("running", "stopping"), ("stopping", "stopping")},
    "retry": {("failed", "queued"), ("cancelled", "queued")},
    "claim": {("queued", "running")},
    "complete": {("running", "completed"), ("stopping", "completed")},
    "stopped": {("running", "queued"), ("running", "failed"), ("stopping", "cancelled"), ("stopping", "paused")},
    "interrupted": {("running", "queued"), ("stopping", "cancelled"), ("stopping", "paused")},
    "killed": {("running", "queued"), ("running", "failed"), ("stopping", "cancelled"), ("stopping", "paused")},
    "wrong": {("running", "failed"), ("stopping", "failed"), ("stopping", "cancelled")},
    "expire": {("running", "queued"), ("running", "failed"), ("stopping", "cancelled"), ("stopping", "paused")},
    "checkpoint": set(),
}
"""What each action may make of a state; it may also leave it as it is."""


class Story:
    """A job to which things happen."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.worker = session.get(Worker, "one") or _worker(session)
        job = Job(name="j", kind="train", engine="deepmd", total_steps=1000, **_empty())
        transitions.enqueue(session, job)
        self.id = job.id

    @property
    def job(self) -> Job:
        return self.session.get_one(Job, self.id, populate_existing=True)

    @property
    def running(self) -> list[Attempt]:
        return list(self.session.scalars(select(Attempt).where(Attempt.job_id == self.id, Attempt.state == "running")))

    def happens(self, action: str) -> None:
        before, version = self.job.state, self.job.version
        try:
            self._do(action)
        except Conflict:
            assert (self.job.state, self.job.version) == (before, version), "what is refused changes nothing"
        after = self.job.state
        assert before == after or (before, after) in LEGAL[action], f"{action}: {before} -> {after}"
        self.check()

    def _do(self, action: str) -> None:
        session = self.session
        if action == "pause":
            transitions.pause(session, self.id, reason="lunch")
        elif action == "resume":
            transitions.resume(session, self.id, reason="back")
        elif action == "retry":
            transitions.retry(session, self.id, Beginning(self._saved()), force=True, reason="again")
        elif action.startswith("cancel"):
            transitions.cancel(session, self.id, at_once=action == "cancel now", reason="no")
        elif action == "claim":
            self.claim()
        elif self.running:
            self._happens_to_the_execution(action, self.running[0])

    def claim(self) -> None:
        """Wait until the job is due and let a worker take it."""
        self.job.not_before = None
        request = ClaimRequest(worker_id="one", job_id=self.id, attempt=self.job.attempt + 1)
        transitions.claim(self.session, self.worker, request, Beginning(self._saved()), SETTINGS)

    def _happens_to_the_execution(self, action: str, attempt: Attempt) -> None:
        step = attempt.start_step + 10
        if action == "checkpoint":
            if step > self._saved():
                self.session.add(Checkpoint(job_id=self.id, attempt=attempt.number, step=step))
        elif action == "expire":
            attempt.lease_expires_at = now() - timedelta(seconds=1)
            self.session.flush()
            transitions.expire(self.session, attempt.id, SETTINGS)
        else:
            outcome, cause = {
                "complete": ("completed", None), "stopped": ("stopped", None), "interrupted": ("interrupted", None),
                "killed": ("interrupted", KILLED), "wrong": ("failed", WRONG),
            }[action]  # fmt: skip
            step = 1000 if action == "complete" else step
            transitions.end(self.session, attempt.id, outcome, step=step, cause=cause, settings=SETTINGS)  # type: ignore[arg-type]

    def _saved(self) -> int:
        self.session.flush()
        return checkpoints.newest_step(self.session, self.id)

    def check(self) -> None:
        """Make sure of what always holds."""
        job = self.job
        active = job.state in ("running", "stopping")
        assert [attempt.number for attempt in self.running] == ([job.attempt] if active else [])
        numbers = select(func.count(), func.max(Attempt.number)).where(Attempt.job_id == job.id)
        count, newest = self.session.execute(numbers).one()
        assert count == (newest or 0) == job.attempt, "executions are numbered on"
        assert (job.state == "stopping") == (job.stop_for is not None)
        assert (job.state in ("completed", "failed", "cancelled")) == (job.ended_at is not None)
        assert (job.state == "failed") <= (job.cause is not None) <= (job.state in ("failed", "cancelled"))
        if not active and job.state != "completed":
            assert job.step in (self._saved(), 10 + self._saved()), "it stands where it goes on, or ended"

    def ends_well(self) -> None:
        """Make sure that the job is not lost: as it stands, it can be brought to its end."""
        if self.job.state in ("paused", "stopping"):
            wanted = self.job.stop_for != "cancel"
            self.happens("stopped")
            if wanted:
                self.happens("resume")
        if self.job.state == "queued":
            self.happens("claim")
            assert self.job.state == "running"
        if self.job.state == "running":
            self.happens("complete")
        assert self.job.state in ("completed", "failed", "cancelled")


def _worker(session: Session) -> Worker:
    worker = Worker(
        id="one", name="one", host="one", slots=1, busy_slots=0, protocol=3, engines={"deepmd": "3"}, versions={}, gpus=[],
        last_seen_at=now(),
    )  # fmt: skip
    session.add(worker)
    return worker


def _empty() -> dict[str, object]:
    return {
        "submitted": {}, "resolved": {}, "origins": {}, "digest": "d" * 64, "seed": 1, "seeds": {}, "determinism": "strict",
        "file_stem": "j", "checkpoint_policy": {},
    }  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(st.sampled_from(sorted(LEGAL)), max_size=12))
@example(["claim", "pause", "cancel", "stopped", "retry", "claim", "checkpoint", "pause", "expire", "resume"])
@example(["claim", "killed", "claim", "killed", "retry", "claim", "killed", "pause", "resume", "claim", "expire"])
def test_any_sequence_leaves_a_legal_state_and_loses_no_job(session: Session, actions: list[str]) -> None:
    story = Story(session)
    for action in ("claim", *actions) if len(actions) % 2 else actions:
        story.happens(action)
    story.ends_well()
