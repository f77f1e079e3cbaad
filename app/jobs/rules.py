"""What becomes of a job when an attempt ends: an ordered list of rules, the first that applies decides. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from app.wire.jobs import Cause

Outcome = Literal["completed", "failed", "stopped", "interrupted", "lost"]
"""`End.outcome`, or lost: the lease ran out."""

StopFor = Literal["cancel", "pause"]
"""`Job.stop_for`."""

RETRIED = frozenset({"killed", "host-lost"})
"""Failure classes that another execution may not meet again. All others would only fail once more."""

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0


@dataclass(frozen=True)
class Ending:
    """All that the decision depends on."""

    outcome: Outcome
    step: int
    total_steps: int
    """What is known of the job; 0: its trainer never said."""
    unit: str
    """What a step is: `step`, `frame`."""
    saved: int
    """Step of the newest checkpoint: the next execution goes on from there."""
    stopping_for: StopFor | None
    """Why someone has asked the execution to stop, if anybody has."""
    cause: Cause | None
    fruitless: int
    """Executions in a row, this one included, that were lost or killed without leaving a newer checkpoint.

    Those before somebody resumed or retried the job are forgotten.
    """
    max_attempts: int
    counted: int = 0
    """Steps that there are for this execution's trainer; 0: it did not say."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of attempt and job. `pause_s` is how long a requeued job waits."""

    attempt: Literal["completed", "failed", "cancelled", "interrupted", "lost"]
    job: Literal["completed", "failed", "cancelled", "paused", "queued"]
    message: str
    cause: Cause | None = None
    pause_s: float = 0.0


def decide(ending: Ending) -> Verdict:
    """Return the verdict of the first rule that applies."""
    return next(verdict for rule in RULES if (verdict := rule(ending)) is not None)


def all_steps_done(ending: Ending) -> Verdict | None:
    """The work is done, even when a cancellation came at the last moment."""
    if ending.outcome == "completed" and ending.step >= ending.total_steps > 0 and not _miscounted(ending):
        return Verdict(
            "completed", "completed", f"completed after {ending.step} {ending.unit}{'' if ending.step == 1 else 's'}"
        )
    return None


def done_too_early(ending: Ending) -> Verdict | None:
    """A trainer that says it is done before the last step is wrong; nobody may take its model for a finished one."""
    if ending.outcome != "completed":
        return None
    of = f"of {ending.total_steps}" if ending.total_steps else f"without saying how many {ending.unit}s there are"
    if _miscounted(ending):
        of = f"of {ending.counted}, but the job has {ending.total_steps}"
    cause = Cause(
        failure="protocol",
        message=f"the trainer said it was done at {ending.unit} {ending.step} {of}",
        step=ending.step,
        hint="Worker and server may be of different versions.",
    )
    return Verdict("failed", "failed", cause.message, cause)


def cancelled(ending: Ending) -> Verdict | None:
    """However the attempt ended, its owner did not want it to go on."""
    if ending.stopping_for != "cancel":
        return None
    attempt: Literal["lost", "cancelled"] = "lost" if ending.outcome == "lost" else "cancelled"
    return Verdict(attempt, "cancelled", f"cancelled at {ending.unit} {ending.step}", ending.cause)


def would_fail_again(ending: Ending) -> Verdict | None:
    """Bad configuration, bad data, non-finite values, no memory: the next execution would meet the same."""
    if ending.outcome != "failed":
        return None
    cause = ending.cause or Cause(failure="library", message="the trainer failed without saying why", step=ending.step)
    if cause.failure in RETRIED:
        return None
    return Verdict("failed", "failed", f"failed at {ending.unit} {ending.step}: {cause.message}", cause)


def paused(ending: Ending) -> Verdict | None:
    """However the execution ended, its owner wanted it to wait; that is no fault of the job and does not count."""
    if ending.stopping_for != "pause":
        return None
    saved = f"{ending.unit} {ending.saved}"
    lost = "" if ending.saved >= ending.step else f"; it will go on from {saved}, the last that was saved"
    why = f" ({ending.cause.message})" if ending.cause else ""
    return Verdict(_attempt_state(ending), "paused", f"paused at {ending.unit} {ending.step}{lost}{why}", ending.cause)


def tried_too_often(ending: Ending) -> Verdict | None:
    """A job that kills its trainer or its host again and again is not given to another one."""
    if not _counts(ending) or ending.fruitless < ending.max_attempts:
        return None
    cause = _cause(ending)
    message = f"given up: {ending.fruitless} executions in a row ended without a new checkpoint; last: {cause.message}"
    hint = "Look at the log of the last attempt; the system may have run out of memory."
    told = cause.model_copy(update={"message": message, "hint": cause.hint or hint})
    return Verdict(_attempt_state(ending), "failed", message, told)


def worker_had_to_go(ending: Ending) -> Verdict | None:
    """A worker that shuts down gives its jobs back; that is no fault of theirs and does not count."""
    if _counts(ending):
        return None
    return Verdict("interrupted", "queued", f"interrupted at {ending.unit} {ending.step}, queued again")


def try_again(ending: Ending) -> Verdict:
    """Killed: back to the queue, after a pause that doubles. Lost: at once, for a whole lease was a pause already."""
    cause = _cause(ending)
    again = f"{cause.message.rstrip('.')}; queued again"
    if ending.outcome == "lost":
        return Verdict("lost", "queued", again, cause)
    pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (ending.fruitless - 1))
    message = f"{again}, next try in {pause_s:.0f} s"
    return Verdict(_attempt_state(ending), "queued", message, cause, pause_s)


RULES: tuple[Callable[[Ending], Verdict | None], ...] = (
    all_steps_done,
    done_too_early,
    cancelled,
    would_fail_again,
    paused,
    tried_too_often,
    worker_had_to_go,
    try_again,
)


def _miscounted(ending: Ending) -> bool:
    """Return whether this execution had another number of steps than the job."""
    return ending.counted not in (0, ending.total_steps)


def _counts(ending: Ending) -> bool:
    """Lost leases, killed trainers and unasked stops count; a worker's own shutdown comes without a cause."""
    return ending.outcome in ("lost", "failed", "stopped") or ending.cause is not None


def _attempt_state(ending: Ending) -> Literal["lost", "failed", "interrupted"]:
    return ending.outcome if ending.outcome in ("lost", "failed") else "interrupted"


def _cause(ending: Ending) -> Cause:
    if ending.cause is not None:
        return ending.cause
    if ending.outcome == "stopped":
        return Cause(
            failure="protocol", message="the worker stopped although nobody had asked for it", step=ending.step
        )
    return Cause(failure="host-lost", message="the worker was not heard of any more", step=ending.step)
