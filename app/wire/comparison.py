"""What a client reads about two runs side by side: where they part, and what differs between them."""

from typing import Any, Literal

from pydantic import Field

from app.wire.base import MAX_NAME, Message, View
from app.wire.provenance import LeafDifference
from app.wire.states import JobState, Verdict


class Reproduce(Message):
    """How to reproduce a job."""

    name: str | None = Field(
        default=None, min_length=1, max_length=MAX_NAME, description="Default: reproduction of NAME."
    )
    allow_other_versions: bool = Field(
        default=False,
        description="Also when this server has another version of the engine's library than the job ran with.",
    )


class MetricValue(View):
    """One value in full: a NaN is shown with its 64 bits, since NaNs of different bits differ."""

    hex: str = Field(description="As C's %a writes it, the exact value: 0x1.999999999999ap-4.")
    decimal: str = Field(description="With 17 significant digits, which name every number exactly.")


class MetricDifference(View):
    """The first step at which one metric differs."""

    key: str
    step: int
    left: MetricValue
    right: MetricValue


class Divergence(MetricDifference):
    """The first step at which any metric differs, and one of them."""

    keys: int = Field(description="How many metrics differ at this step.")


class FingerprintPair(View):
    """Two digests of the same thing.

    init: weights before the first step. transfer: weights after those of the base came in. statistics: of the data.
    checkpoint: weights at a step. generators: state of a random generator at a checkpoint.
    """

    stage: Literal["init", "transfer", "statistics", "checkpoint", "generators"]
    step: int | None = None
    generator: str | None = Field(
        default=None, description="python, numpy, torch, cuda:0, dp_random, data order: with the stage generators."
    )
    left: str
    right: str


class UnevenMetric(View):
    """A metric that one of both measured at steps at which the other did not, within what both have of it.

    Of a metric that differs: before its first difference.
    """

    key: str
    left: int = Field(description="Values at steps that only the left one has.")
    right: int


class Difference(View):
    """One value that is not the same on both sides."""

    pointer: str
    left: Any = None
    right: Any = None
    only: Literal["left", "right"] | None = Field(
        default=None, description="Set when the other side has no such value."
    )


class EnvironmentDifference(View):
    """What two executions ran on differs in."""

    left_job: int
    left_attempt: int
    right_job: int
    right_attempt: int
    differences: list[Difference]


class Side(View):
    """One of the two jobs."""

    job: int
    name: str
    state: JobState
    step: int
    total_steps: int = Field(description="0: not known before a worker has seen the data.")


class Comparison(View):
    """Two runs, compared bit for bit. `perf/…` is time on the wall and never compared."""

    left: Side
    right: Side
    verdict: Verdict
    summary: str = Field(description="The verdict in words.")
    steps: int = Field(description="Equal steps, before the first that differs: of the metric that has the most.")
    last_step: int | None = Field(default=None, description="The last of these steps.")
    metrics: list[str] = Field(description="Metrics that both have.")
    divergence: Divergence | None = None
    first_differences: list[MetricDifference] = Field(
        default=[], description="For every metric that differs somewhere its first such step, earliest first."
    )
    only_left: list[str] = Field(default=[], description="Metrics that only the left one has; no divergence.")
    only_right: list[str] = []
    uneven: list[UnevenMetric] = []
    checkpoints: int = Field(default=0, description="Steps of which both have the fingerprint of a checkpoint.")
    beginning: list[FingerprintPair] = Field(
        default=[], description="Fingerprints of init, transfer and statistics, where both have them."
    )
    fingerprint: FingerprintPair | None = Field(
        default=None, description="The first fingerprint that differs: of weights and statistics, else of a generator."
    )
    generators: FingerprintPair | None = Field(
        default=None, description="The first random generator whose state at a checkpoint differs."
    )
    config: list[LeafDifference] = Field(default=[], description="Leaves of the resolved configs that differ.")
    spec: list[Difference] = Field(
        default=[],
        description="Seeds, data digests, base, start, determinism, engine and its library's version, steps.",
    )
    environment: EnvironmentDifference | None = Field(
        default=None,
        description="Of the executions that made the first step that differs, else the newest; None: one is not known.",
    )
    moves: list[EnvironmentDifference] = Field(
        default=[], description="Executions of one job that ran on something else than the execution before."
    )
