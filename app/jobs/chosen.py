"""The checkpoints of a training that are measured beside its last: which steps were chosen, and whether they can be."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.engines.documents import dotted
from app.tables import Checkpoint, Job
from app.wire.problems import Problem
from app.wire.submission import CheckpointPolicy, JobSubmit


@dataclass(frozen=True)
class Chosen:
    """Some of a training's steps."""

    at: tuple[int, ...] = ()
    every: int | None = None
    """All that this divides, too."""

    @classmethod
    def of_submission(cls, submit: JobSubmit) -> Self:
        """Return which a submission chooses."""
        return cls(tuple(submit.test_at), submit.test_every)

    def __bool__(self) -> bool:
        return bool(self.at) or self.every is not None

    def has(self, step: int) -> bool:
        """Return whether this is one of them."""
        return step in self.at or (self.every is not None and step % self.every == 0)

    def __str__(self) -> str:
        parts = [f"every {self.every} steps"] if self.every else []
        parts += [f"step {', '.join(map(str, self.at))}"] if self.at else []
        return " and at ".join(parts)


@dataclass(frozen=True)
class Writing:
    """When a training writes checkpoints."""

    interval: int
    """Steps from one to the next, counted from the very beginning."""
    start: int
    """The step that it begins after."""
    total: int
    """The last step, which has a checkpoint, too; 0: nobody knows it yet."""
    is_settled: bool = False
    """Whether it is too late to say otherwise."""


def of(job: Job) -> Chosen:
    """Return which of a training's steps were chosen."""
    return Chosen(tuple(job.test_at or ()), job.test_every)


def is_due(job: Job, checkpoint: Checkpoint) -> bool:
    """Return whether a checkpoint is yet to be measured because of its step."""
    return bool(job.test_on) and checkpoint.id > job.tested_until and of(job).has(checkpoint.step)


def refused(chosen: Chosen, data: Sequence[str], when: Writing, at: str, every: str, on: str) -> Iterator[Problem]:
    """Yield what is wrong with a choice; its pointers are below `at` and `every`, and `on` is where data are named."""
    if chosen and not data:
        pointer = at if chosen.at else every
        message = f"{dotted(pointer)} chooses checkpoints to test, but no data to test them on are named"
        yield Problem(code="contradiction", message=message, pointer=pointer, hint=f"Name some in {dotted(on)}.")
    for index, step in enumerate(chosen.at):
        if problem := _refused(step, when, f"{at}/{index}"):
            yield problem
    if chosen.every is not None and 0 < when.total < chosen.every:
        message = f"{dotted(every)} is {chosen.every}, but this training has {when.total} steps"
        yield Problem(code="out-of-range", message=message, pointer=every, hint="Choose fewer steps, or leave it out.")
    elif chosen.every is not None and chosen.every % when.interval:
        message = f"{dotted(every)} is {chosen.every}, but a checkpoint is written every {when.interval} steps"
        near = math.ceil(chosen.every / when.interval) * when.interval
        yield Problem(code="no-checkpoint", message=message, pointer=every, hint=f"Write {near}, or another multiple.")


def _refused(step: int, when: Writing, pointer: str) -> Problem | None:
    if (when.total and step > when.total) or step <= when.start:
        end = f" to {when.total}" if when.total else ""
        message = f"{dotted(pointer)} is {step}, but this training goes from step {when.start}{end}"
        return Problem(code="out-of-range", message=message, pointer=pointer, hint="Choose one of its steps.")
    if step % when.interval and step != when.total:
        before = step // when.interval * when.interval
        message = f"{dotted(pointer)} is {step}, but a checkpoint is written every {when.interval} steps"
        otherwise = "." if when.is_settled else ", or set `checkpoints.every_steps`."
        hint = f"Write {before or when.interval}{otherwise}"
        return Problem(code="no-checkpoint", message=message, pointer=pointer, hint=hint)
    return None


def gone(session: Session, job_id: int, chosen: Chosen, at: str) -> Iterator[Problem]:
    """Yield which of the chosen steps a training has passed without their checkpoints being here any more."""
    steps = session.scalars(select(Checkpoint.step).where(Checkpoint.job_id == job_id)).all()
    for index, step in enumerate(chosen.at):
        if step < max(steps, default=0) and step not in steps:
            there = ", ".join(map(str, sorted(steps)))
            message = f"job {job_id} has no checkpoint of step {step} any more"
            yield Problem(code="no-checkpoint", message=message, pointer=f"{at}/{index}", hint=f"There are {there}.")


def for_worker(job: Job, policy: CheckpointPolicy) -> CheckpointPolicy:
    """Return a policy by which a worker that is behind with uploads leaves out no checkpoint that is to be measured.

    One number cannot say more exactly which these are, so it may send more than are kept.
    """
    chosen = of(job)
    if not (chosen and job.test_on):
        return policy
    steps = (*chosen.at, *(step for step in (chosen.every, policy.keep_every) if step))
    return policy.model_copy(update={"keep_every": math.gcd(*steps)})
