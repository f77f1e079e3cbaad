"""What a client reads and asks about groups: jobs that were submitted as one and differ in nothing but their seeds."""

from datetime import datetime

from pydantic import Field

from app.wire.base import Message, View
from app.wire.jobs import JobView
from app.wire.states import JobState


class GroupView(View):
    """A group as lists show it."""

    id: int
    name: str
    engine: str
    seed: int = Field(description="The root from which the root seed of every replica is derived.")
    size: int
    created_at: datetime
    states: dict[JobState, int] = Field(description="How many of its jobs are in each state.")
    step: int = Field(description="Smallest step of its jobs.")
    total_steps: int = Field(description="Of a job; 0: not known before a worker has seen the data.")


class Summary(View):
    """One metric over the replicas, where they ended (or stand)."""

    key: str
    unit: str = Field(default="", description="What it is measured in, if in anything.")
    count: int = Field(description="Replicas with a finite value: all statistics are of these.")
    mean: float | None
    std: float | None = Field(description="Of the sample (n - 1); null with less than two.")
    low: float | None = Field(
        description="95 % confidence interval of the mean, by Student's t; null with less than two."
    )
    high: float | None
    values: dict[int, float | None] = Field(description="Newest value by job; null stands for NaN or infinity.")
    outliers: list[int] = Field(
        default=[],
        description="Jobs whose modified z-score (median and MAD, Iglewicz and Hoaglin) is over 3.5, among at least "
        "four, or whose value is not finite.",
    )


class GroupDetail(GroupView):
    """A group as its own page shows it."""

    jobs: list[JobView] = Field(description="In the order of their replica numbers.")
    summary: list[Summary] = []
    tasks: list[JobView] = Field(
        default=[], description="Jobs of other kinds than train on all of its replicas, newest first."
    )


class GroupPage(View):
    """One page of a list; pass `next_cursor` as `cursor` for the next."""

    items: list[GroupView]
    next_cursor: str | None = None


class Band(View):
    """One metric over steps: statistics of the replicas that have a finite value there. Null: too few for it."""

    steps: list[int] = Field(description="Every step that at least one replica has.")
    count: list[int] = Field(description="Replicas with a finite value at each.")
    mean: list[float | None]
    std: list[float | None]
    low: list[float | None] = Field(description="95 % confidence interval of the mean, by Student's t.")
    high: list[float | None]
    min: list[float | None]
    max: list[float | None]


class GroupMetrics(View):
    """Answer of the route of a group's metrics, by key."""

    bands: dict[str, Band]


class GroupAction(Message):
    """How to act on all jobs of a group."""

    now: bool = Field(default=False, description="Cancel only: without a last checkpoint.")
    reason: str | None = Field(default=None, max_length=1000)


class GroupActed(View):
    """What came of it."""

    changed: list[int] = Field(description="Jobs that it changed.")
    unchanged: dict[int, str] = Field(default={}, description="Why not, by job.")
