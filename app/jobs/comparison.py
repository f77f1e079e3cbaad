"""Two runs side by side, bit for bit: metrics, fingerprints, and the verdict in words. Pure.

Metrics come as streams: series of one key in order of their steps, none of them empty. Of each only what is being
compared is held in memory.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from app.engines.documents import canonical, leaves
from app.jobs.metric_blocks import FAR
from app.jobs.series import Array, Series
from app.wire.comparison import (
    Difference,
    Divergence,
    FingerprintPair,
    MetricDifference,
    MetricValue,
    Side,
    UnevenMetric,
)
from app.wire.jobs import of_all
from app.wire.states import FINAL_STATES, Verdict

Stream = Iterator[Series]
Read = Callable[[str], Stream]
"""Opens the stream of a key."""

WALL_TIME = "perf/"
"""Keys below this are time on the wall: they differ between identical runs."""


@dataclass
class KeyComparison:
    """What is known of one key so far."""

    equal: int = 0
    """Steps at which both have it and it is equal, before the first that differs."""
    first: int | None = None
    """The first of them."""
    last: int | None = None
    difference: tuple[int, int, int] | None = None
    """First step that differs, and the 64 bits of both values there."""
    left: int = 0
    """Values at steps that only the left one has, within what both have."""
    right: int = 0
    uneven_end: bool = False
    """One of both goes on beyond the other's last step."""

    def add(self, ours: Series, theirs: Series) -> None:
        """Compare two series over the same range of steps."""
        steps, left, right = _common(ours, theirs)
        differing = np.flatnonzero(left.view(np.int64) != right.view(np.int64))
        count = int(differing[0]) if len(differing) else len(steps)
        if count:
            self.first = int(steps[0]) if self.first is None else self.first
            self.equal, self.last = self.equal + count, int(steps[count - 1])
        if len(differing):
            self.difference = int(steps[count]), int(left.view(np.int64)[count]), int(right.view(np.int64)[count])
            return
        self.left += len(ours) - len(steps)
        self.right += len(theirs) - len(steps)


def _common(ours: Series, theirs: Series) -> tuple[Array, Array, Array]:
    """Return the steps that both have, and their values there."""
    if np.array_equal(ours.steps, theirs.steps):
        return ours.steps, ours.values, theirs.values
    steps, left, right = np.intersect1d(ours.steps, theirs.steps, assume_unique=True, return_indices=True)
    return steps, ours.values[left], theirs.values[right]


def compare_key(left: Stream, right: Stream) -> KeyComparison:
    """Compare one key from the later beginning on: up to the first difference, or the earlier end."""
    found = KeyComparison()
    ours, theirs = next(left, None), next(right, None)
    if ours is None or theirs is None:
        return found
    begin = max(int(ours.steps[0]), int(theirs.steps[0]))
    while ours is not None and theirs is not None and found.difference is None:
        last = min(int(ours.steps[-1]), int(theirs.steps[-1]))
        found.add(ours.between(begin, last), theirs.between(begin, last))
        ours, theirs = _rest(ours, last, left), _rest(theirs, last, right)
    found.uneven_end = (ours is None) != (theirs is None)
    return found


def _rest(series: Series, last: int, more: Stream) -> Series | None:
    """Return what lies beyond a step, or what comes next."""
    rest = series.between(last + 1, None)
    return rest if len(rest) else next(more, None)


def up_to(stream: Stream, last: int) -> Stream:
    """Yield what of a stream lies at or before a step."""
    for series in stream:
        part = series.between(None, last)
        if not len(part):
            return
        yield part


@dataclass(frozen=True)
class Metrics:
    """The metrics of two runs, compared."""

    steps: int = 0
    """Equal steps before the first that differs in any key: of the key that has the most."""
    last: int | None = None
    differences: Sequence[MetricDifference] = ()
    """The first of every key that has one, earliest first."""
    uneven: Sequence[UnevenMetric] = ()
    uneven_end: bool = False
    """Of the key with the most steps, one run has more than the other at the end."""

    @property
    def divergence(self) -> Divergence | None:
        """The first difference of all."""
        if not self.differences:
            return None
        first = self.differences[0]
        keys = sum(1 for one in self.differences if one.step == first.step)
        return Divergence(**dict(first), keys=keys)


def compare_metrics(keys: Iterable[str], left: Read, right: Read) -> Metrics:
    """Compare the keys that two runs have in common, each read once; a few a second time, up to the first difference."""
    found = {key: compare_key(left(key), right(key)) for key in keys}
    differences = sorted(
        (_difference(key, *one.difference) for key, one in found.items() if one.difference),
        key=lambda one: (one.step, one.key),
    )
    last = differences[0].step - 1 if differences else FAR
    most = _most_equal(found, last, left, right)
    uneven = [
        UnevenMetric(key=key, left=one.left, right=one.right) for key, one in found.items() if one.left or one.right
    ]
    return Metrics(most.equal, most.last, differences, uneven, most.uneven_end)


def _most_equal(found: Mapping[str, KeyComparison], last: int, left: Read, right: Read) -> KeyComparison:
    """Return what is known of the key with the most equal steps up to `last`. No key is read that cannot have more."""

    def at_most(one: KeyComparison) -> int:
        return 0 if one.first is None else min(one.equal, last - one.first + 1)

    most = KeyComparison()
    for key, one in sorted(found.items(), key=lambda item: at_most(item[1]), reverse=True):
        if at_most(one) <= most.equal:
            break
        is_exact = one.last is not None and one.last <= last
        before = one if is_exact else compare_key(up_to(left(key), last), up_to(right(key), last))
        most = max(most, before, key=lambda known: known.equal)
    return most


def _difference(key: str, step: int, left: int, right: int) -> MetricDifference:
    return MetricDifference(key=key, step=step, left=shown(left), right=shown(right))


def shown(bits: int) -> MetricValue:
    """Return the float64 that a signed 64-bit integer holds, in full precision."""
    raw = struct.pack(">q", bits)
    value: float = struct.unpack(">d", raw)[0]
    return MetricValue(hex=value.hex() if value == value else f"nan:0x{raw.hex()}", decimal=f"{value:.17g}")


@dataclass(frozen=True)
class Fingerprints:
    """Digests that a run left on its way."""

    beginning: Mapping[Literal["init", "transfer", "statistics"], str] = field(default_factory=dict)
    checkpoints: Mapping[int, str] = field(default_factory=dict)
    """Of the weights, by step."""
    generators: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """Of the state of every random generator, by step and name."""


def pair_beginning(left: Fingerprints, right: Fingerprints) -> list[FingerprintPair]:
    """Return the fingerprints of what both began with, in the order in which they come about."""
    stages: tuple[Literal["init", "transfer", "statistics"], ...] = ("init", "transfer", "statistics")
    ours, theirs = left.beginning, right.beginning
    return [
        FingerprintPair(stage=stage, left=ours[stage], right=theirs[stage])
        for stage in stages
        if stage in ours and stage in theirs
    ]


def pair_checkpoints(left: Fingerprints, right: Fingerprints) -> list[FingerprintPair]:
    """Return the fingerprints of all checkpoints of the same step, in order."""
    ours, theirs = left.checkpoints, right.checkpoints
    return [
        FingerprintPair(stage="checkpoint", step=step, left=ours[step], right=theirs[step])
        for step in sorted(ours.keys() & theirs.keys())
    ]


def pair_generators(left: Fingerprints, right: Fingerprints) -> list[FingerprintPair]:
    """Return the states of all generators that both have, at all checkpoints of the same step, in order."""
    ours, theirs = left.generators, right.generators
    return [
        FingerprintPair(stage="generators", step=step, generator=name, left=ours[step][name], right=theirs[step][name])
        for step in sorted(ours.keys() & theirs.keys())
        for name in sorted(ours[step].keys() & theirs[step].keys())
    ]


def first_differing(pairs: Iterable[FingerprintPair]) -> FingerprintPair | None:
    """Return the first pair that is not equal."""
    return next((pair for pair in pairs if pair.left != pair.right), None)


def differing(left: Any, right: Any) -> list[Difference]:
    """Return what two JSON documents differ in, leaf by leaf, by pointer. 1, 1.0 and true are three values."""
    ours, theirs = dict(leaves(left)), dict(leaves(right))
    return [
        Difference(
            pointer=at,
            left=ours.get(at),
            right=theirs.get(at),
            only="right" if at not in ours else "left" if at not in theirs else None,
        )
        for at in sorted(ours | theirs)
        if at not in ours or at not in theirs or canonical(ours[at]) != canonical(theirs[at])
    ]


def decide(left: Side, right: Side, metrics: Metrics, fingerprint: FingerprintPair | None) -> Verdict:
    """Return the verdict on two runs; `fingerprint` is the first that differs."""
    if metrics.differences or fingerprint:
        return "diverged"
    if not metrics.steps:
        return "not-comparable"
    ended = left.state in FINAL_STATES and right.state in FINAL_STATES
    return "identical" if ended and left.step == right.step and not metrics.uneven_end else "identical-so-far"


def summarise(
    verdict: Verdict,
    left: Side,
    right: Side,
    metrics: Metrics,
    checkpoints: int,
    fingerprint: FingerprintPair | None,
) -> str:
    """Return the verdict in a sentence."""
    steps = _counted(metrics.steps, "step")
    if verdict == "identical":
        return f"identical: {steps}, {_counted(checkpoints, 'checkpoint')}"
    if verdict == "diverged":
        return _divergence_in_words(left, right, metrics, fingerprint)
    if verdict == "not-comparable":
        return _nothing_in_words(left, right)
    if left.state in FINAL_STATES and right.state in FINAL_STATES:
        return f"identical in the {steps} that both have; {_end_in_words(left)}, {_end_in_words(right)}"
    return f"identical so far ({steps})"


def _divergence_in_words(left: Side, right: Side, metrics: Metrics, fingerprint: FingerprintPair | None) -> str:
    first = metrics.divergence
    weights = _fingerprint_in_words(fingerprint) if fingerprint else ""
    if first is None:
        return f"diverged: {weights}; every metric of {_counted(metrics.steps, 'step')} is equal"
    others = f", and {_counted(first.keys - 1, 'more metric')} there" if first.keys > 1 else ""
    values = f"{first.left.decimal} in job {left.job}, {first.right.decimal} in job {right.job}"
    if first.left.decimal == first.right.decimal:  # NaNs of different bits
        values = f"{first.left.hex} in job {left.job}, {first.right.hex} in job {right.job}"
    words = f"diverged at step {first.step:,}: {first.key} is {values}{others}"
    return f"{words}; {weights}" if weights else words


def _fingerprint_in_words(pair: FingerprintPair) -> str:
    what = {
        "init": "the weights before the first step differ",
        "transfer": "the weights that came from the base differ",
        "statistics": "the statistics of the data differ",
        "checkpoint": f"the weights of the checkpoint of step {pair.step or 0:,} differ",
        "generators": f"the state of the random generator {pair.generator} at the checkpoint of step {pair.step or 0:,} differs",
    }[pair.stage]
    return f"{what} ({pair.left[:12]} and {pair.right[:12]})"


def _nothing_in_words(left: Side, right: Side) -> str:
    waiting = [side for side in (left, right) if side.state not in FINAL_STATES]
    if waiting:
        jobs = " and ".join(f"job {side.job} is {side.state}" for side in waiting)
        return f"nothing to compare yet: no step has been measured in both ({jobs})"
    return f"not comparable: jobs {left.job} and {right.job} have no metric of the same step"


def _end_in_words(side: Side) -> str:
    return f"job {side.job} {side.state} at step {of_all(side.step, side.total_steps, ',')}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
