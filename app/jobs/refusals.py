"""Why a job cannot be retried, paused or resumed, in words. Changes nothing."""

from app.errors import Conflict
from app.tables import Job
from app.wire.states import FINAL_STATES

HOPELESS = frozenset({"configuration", "data"})
"""Failure classes that a retry would only meet again."""


def awaits_plan(job: Job) -> bool:
    """Return whether a job cannot run before its transfer plan is made."""
    return job.inventory_errand_id is not None and job.plan is None


def being_cancelled(job: Job) -> Conflict:
    """Return why nothing else can be done with a job that stops for good."""
    message = f"job {job.id} is being cancelled: {job.stop_reason}"
    return Conflict(
        message, code="being-cancelled", hint="Once it is cancelled, it can be retried from its checkpoint."
    )


def check_retriable(job: Job, *, force: bool) -> None:
    """Make sure that a job can be queued again, and that this makes sense unless `force`.

    Raises:
        Conflict: see `transitions.retry`.
    """
    if job.state not in FINAL_STATES:
        hint = "A paused job is resumed." if job.state == "paused" else "Only what failed or was cancelled is retried."
        raise Conflict(f"job {job.id} is {job.state}: there is nothing to retry", code="not-ended", hint=hint)
    if job.state == "completed":
        message = f"job {job.id} is completed: all its {job.total_steps} steps are done"
        raise Conflict(message, code="job-finished", hint="Extend it to more steps, or reproduce it.")
    if awaits_plan(job):
        message = f"job {job.id} ended before it was known what its model takes from its base: it could never have run"
        raise Conflict(message, code="never-planned", hint=f"Submit it again: `cairn clone {job.id}`.")
    failure = (job.cause or {}).get("failure")
    if failure in HOPELESS and not force:
        why = (job.cause or {}).get("message")
        raise Conflict(
            f"job {job.id} failed for its {failure} ({why}): as it is, it would fail again",
            code="would-fail-again",
            hint=f"Submit it with a change: `cairn clone {job.id} --set KEY=VALUE`. To try it all the same: `force`.",
        )
