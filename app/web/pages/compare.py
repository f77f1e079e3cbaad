"""Two jobs side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from app.web.pages.base import Page
from app.wire.comparison import Comparison, FingerprintPair, MetricDifference
from app.wire.jobs import JobDetail
from app.wire.measuring import MeasuredPair, Quantity
from app.wire.provenance import JobDiff
from app.wire.states import FINAL_STATES


@dataclass(frozen=True)
class ComparePage(Page):
    """What two jobs differ in: their runs, bit for bit, and what they were given."""

    template: ClassVar[str] = "compare.html"
    section: ClassVar[str] = "jobs"
    script: ClassVar[str] = "compare"

    left: JobDetail
    """The first job."""
    right: JobDetail
    """The second job."""
    diff: JobDiff
    """Values that differ, and equal values of different origin."""
    runs: Comparison
    """Metrics, fingerprints, and what the two ran on."""
    tests: Sequence[MeasuredPair]
    """The errors of both on the same held-out data."""

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return f"job {self.left.id} and job {self.right.id}"

    @property
    def sides(self) -> tuple[JobDetail, JobDetail]:
        """Return both jobs, the first one left."""
        return self.left, self.right

    @property
    def final(self) -> bool:
        """Return whether nothing will change any more."""
        return all(job.state in FINAL_STATES for job in self.sides)

    @property
    def equal_metrics(self) -> Sequence[str]:
        """Return the metrics that both have and that differ nowhere."""
        differing = {one.key for one in self.runs.first_differences}
        return [key for key in self.runs.metrics if key not in differing]

    @property
    def fingerprints(self) -> Sequence[FingerprintPair]:
        """Return the pairs of digests to show: of the beginning, and of the first checkpoint and generator that differ."""
        first, generator = self.runs.fingerprint, self.runs.generators
        differing = [first] if first and first.stage == "checkpoint" else []
        return [*self.runs.beginning, *differing, *([generator] if generator else [])]

    @property
    def curve(self) -> dict[str, Any] | None:
        """Return what the picture of the metric that parted first needs to know; None without one."""
        first = self.runs.divergence
        return {"jobs": [self.left.id, self.right.id], "key": first.key, "step": first.step} if first else None

    def measured(self, pair: MeasuredPair) -> Sequence[Quantity]:
        """Return the quantities that were measured of both."""
        return [one for one in pair.left.quantities if one.key in pair.left.errors and one.key in pair.right.errors]

    def apart(self, difference: MetricDifference) -> float:
        """Return how far two values are apart; NaN where one of them is."""
        return abs(float(difference.left.decimal) - float(difference.right.decimal))
