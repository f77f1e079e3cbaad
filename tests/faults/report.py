"""What a campaign did, and how it ended: in words, for people and for a file."""

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recovery:
    """An execution that was taken from its worker, and ran again."""

    fault: str
    periods: float
    """Lease periods from the fault to the first instruction of the next execution's trainer."""


@dataclass
class Report:
    """The figures of one campaign."""

    database: str
    seed: int
    lease_s: float
    faults: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)
    """Kinds of faults that cannot be had here, and why."""
    seconds: float = 0.0
    jobs: int = 0
    executions: int = 0
    lost: list[str] = field(default_factory=list)
    """What is missing: jobs without an end, steps without a metric, checkpoints without their bytes."""
    doubled: list[str] = field(default_factory=list)
    """What is there twice: executions at the same time, completed executions, steps."""
    recoveries: list[Recovery] = field(default_factory=list)
    struck_again: int = 0
    """Executions that another fault ended before they could say that they run."""

    def __str__(self) -> str:
        head = f"{self.faults.total()} faults on {self.database} in {self.seconds:.0f} s (seed {self.seed})"
        kinds = [f"  {count:4}  {kind}" for kind, count in sorted(self.faults.items())]
        lost, doubled = len(self.lost), len(self.doubled)
        jobs = f"{self.jobs} jobs in {self.executions} executions; lost: {lost}, doubled: {doubled}"
        lines = [head, *kinds, *self.left_out, jobs, *self._recovery_lines(), *self.lost, *self.doubled]
        return "\n".join(lines)

    def _recovery_lines(self) -> list[str]:
        """Return the table of recoveries, each while other faults went on."""
        by_fault: dict[str, list[float]] = defaultdict(list)
        for recovery in self.recoveries:
            by_fault[recovery.fault].append(recovery.periods)
        head = f"executions that ran again, in lease periods of {self.lease_s:g} s, other faults striking meanwhile:"
        rows = [
            f"  {len(found):4}  {fault}: min {min(found):.2f}, median {statistics.median(found):.2f}, max {max(found):.2f}"
            for fault, found in sorted(by_fault.items())
        ]
        again = f"  {self.struck_again:4}  were struck again before they ran"
        return [head, *rows, again] if rows else []
