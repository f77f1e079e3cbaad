"""What a client reads about where a job came from, and what two jobs' configs differ in."""

from typing import Any

from pydantic import Field

from app.wire.base import View
from app.wire.jobs import UsedModel
from app.wire.problems import Notice
from app.wire.resolution import Origin
from app.wire.submission import Start
from app.wire.transfer import TransferPlan


class Provenance(View):
    """Where a job's config and weights came from, as `provenance.json`."""

    job_id: int
    name: str
    engine: str
    digest: str
    seed: int
    seeds: dict[str, int]
    datasets: dict[str, str] = Field(description="Content digest by `dataset:NAME@VERSION`.")
    models: list[UsedModel] = []
    start: Start
    base: str | None = None
    base_sha256: str | None = None
    config: dict[str, Any]
    origins: dict[str, Origin]
    inheritance: list[str]
    plan: TransferPlan | None = None
    warnings: list[Notice] = []


class LeafDifference(View):
    """One value that two jobs do not have in common, or have from different origins. None: this job has no such value."""

    pointer: str
    left: Any = None
    right: Any = None
    left_origin: Origin | None = None
    right_origin: Origin | None = None


class JobDiff(View):
    """What two jobs' resolved configs differ in."""

    left: int
    right: int
    same_training: bool = Field(description="Equal digests: the two train the same thing.")
    values: list[LeafDifference] = Field(description="Leaves with different values.")
    origins: list[LeafDifference] = Field(description="Leaves with equal values of different origin.")
