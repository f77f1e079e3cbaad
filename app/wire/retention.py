"""Which checkpoints a policy keeps, and why: one rule for the server and for workers that are behind with uploads."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from app.wire.base import Message, View
from app.wire.checkpoints import CheckpointView
from app.wire.submission import CheckpointPolicy


@dataclass(frozen=True)
class Candidate:
    """A checkpoint, as far as retention is concerned. `key` is whatever the caller knows it by."""

    key: int
    step: int
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    good: bool = True
    """Whether its files are not known to be damaged."""
    referred_by: Sequence[str] = ()
    """What else refers to it: `base water@3`."""


def kept(candidates: Sequence[Candidate], policy: CheckpointPolicy) -> dict[int, list[str]]:
    """Return why each checkpoint is kept, by its key; those that are not named are not kept.

    A damaged checkpoint is never counted as one of the newest or as the best: as many good ones are kept as the policy
    says. It is itself kept as long as it is newer than these, because the same bytes may come again.
    """
    newest_first = sorted(candidates, key=lambda one: (one.step, one.key), reverse=True)
    reasons: dict[int, list[str]] = {}
    for one, why in _reasons(newest_first, policy):
        reasons.setdefault(one.key, []).append(why)
    return reasons


def _reasons(newest_first: Sequence[Candidate], policy: CheckpointPolicy) -> Iterator[tuple[Candidate, str]]:
    good = [one for one in newest_first if one.good]
    newest = good[: policy.keep_last]
    for one in newest:
        yield one, "newest"
    yield from ((one, "damaged, but new") for one in _newer_damaged(newest_first, newest, policy))
    if (best := _best(good, policy.keep_best)) is not None:
        yield best, f"best {policy.keep_best}"
    for one in newest_first:
        if policy.keep_every is not None and one.step % policy.keep_every == 0:
            yield one, f"every {policy.keep_every}"
        for who in one.referred_by:
            yield one, who


def _newer_damaged(
    newest_first: Sequence[Candidate], newest: Sequence[Candidate], policy: CheckpointPolicy
) -> Sequence[Candidate]:
    if len(newest) < policy.keep_last:
        return [one for one in newest_first if not one.good]
    position = newest_first.index(newest[-1])
    return [one for one in newest_first[:position] if not one.good]


def _best(newest_first: Sequence[Candidate], metric: str | None) -> Candidate | None:
    """Return the checkpoint with the lowest value, the newest of equal ones. One whose value is not finite is none."""
    measured = [(value, one) for one in newest_first if (value := _value(one, metric)) is not None]
    return min(measured, key=lambda pair: pair[0], default=(None, None))[1]


def _value(one: Candidate, metric: str | None) -> float | None:
    value = one.metrics.get(metric) if metric is not None else None
    return value if value is not None and math.isfinite(value) else None


class Retention(Message):
    """Which checkpoints of a job are kept from now on."""

    keep_last: int = Field(default=5, ge=2, description="How many of the newest.")
    keep_best: str | None = Field(
        default=None, max_length=200, description="Also the one with the lowest value of this metric: `val/rmse_f`."
    )
    keep_every: int | None = Field(default=None, ge=1, description="Also those of every step divisible by this.")


class RetentionPlan(View):
    """What a policy keeps of a job's checkpoints, newest first, and what it removes."""

    policy: CheckpointPolicy
    kept: list[CheckpointView]
    removed: list[CheckpointView]
    size: int = Field(
        description="Bytes that the removed checkpoints alone take: files that something else needs stay."
    )
