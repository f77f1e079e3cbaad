"""What a client reads about jobs."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from app.wire.base import View
from app.wire.problems import Notice
from app.wire.resolution import Origin, WeightCheck
from app.wire.states import JobKind, JobState, Verdict
from app.wire.submission import Determinism, Resources, Start, StartMode
from app.wire.transfer import TransferPlan


def of_all(step: int, total_steps: int, form: str = "") -> str:
    """Return `4200 of 10000`, or `4200` while nobody knows yet how many there will be. `form` is of each number."""
    return f"{step:{form}} of {total_steps:{form}}" if total_steps else f"{step:{form}}"


class Progress(View):
    """Where a job stands."""

    step: int = 0
    total_steps: int = Field(default=0, description="0: not known before a worker has seen the data.")
    unit: str = Field(default="step", description="What a step is: `frame` for a model deviation.")
    phase: str | None = Field(default=None, description="What the trainer does now: fetching, statistics, training, …")
    steps_per_s: float | None = None
    eta_s: float | None = None
    latest: dict[str, float | None] = Field(
        default={}, description="Newest value of each metric; null stands for NaN or infinity."
    )
    headline: list[str] = Field(default=[], description="Those of them worth a look, most important first.")
    units: dict[str, str] = Field(default={}, description="What those of them are measured in that have a unit.")


class Cause(View):
    """Why an attempt or a job ended other than by finishing."""

    failure: Literal[
        "configuration",
        "data",
        "non-finite",
        "out-of-memory",
        "killed",
        "host-lost",
        "disk-full",
        "library",
        "protocol",
    ]
    message: str
    step: int | None = None
    hint: str | None = None
    detail: str | None = Field(default=None, description="Traceback or the last lines of the log.")


class AttemptView(View):
    """One execution of a job."""

    number: int
    state: Literal["running", "completed", "failed", "cancelled", "interrupted", "lost"]
    worker: str
    started_at: datetime
    ended_at: datetime | None = None
    start_step: int = 0
    cause: Cause | None = None
    environment: dict[str, Any] | None = None


class JobView(View):
    """A job as lists show it."""

    id: int
    name: str
    kind: JobKind
    engine: str
    state: JobState
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    updated_at: datetime
    progress: Progress
    attempt: int = 0
    cause: Cause | None = None
    tags: list[str] = []
    priority: int = 0
    seed: int
    determinism: Determinism
    resources: Resources = Resources()
    digest: str
    start_mode: StartMode = "scratch"
    base: str | None = Field(default=None, description="The base model with its version: `water@3`.")
    reproduces: int | None = Field(default=None, description="The job whose frozen spec this one runs again.")
    reproduction: Verdict | None = Field(
        default=None, description="What came of reproducing it; None until both jobs have ended."
    )
    group: int | None = Field(default=None, description="The group that it was submitted in.")
    replica: int | None = Field(default=None, description="Its number in the group, from 1.")
    continues: int | None = Field(default=None, description="The interrupted twin whose checkpoint it goes on from.")


class Exactness(View):
    """Whether an interrupted job is, bit for bit, the same run as an uninterrupted one, or why that is not known."""

    exact: bool
    reasons: list[str] = Field(default=[], description="Why not, one sentence each; empty when it is exact.")
    proof: list[str] = Field(default=[], description="What was checked, one sentence each.")


class JobFile(View):
    """A file that a job made beside its checkpoints: `model_devi.out`."""

    name: str
    media_type: str
    sha256: str
    md5: str
    size: int


class UsedModel(View):
    """A model that a job of another kind than train works on."""

    name: str = Field(description="`job:17@4000` or `water@3`.")
    file_name: str
    sha256: str


class JobDetail(JobView):
    """A job as its own page shows it."""

    exactness: Exactness | None = Field(default=None, description="None before its first execution.")
    weight_check: WeightCheck | None = None
    files: list[JobFile] = []
    models: list[UsedModel] = Field(default=[], description="What it works on, when it is no training.")
    test_on: list[str] = Field(default=[], description="What its last checkpoint is yet to be tested on.")
    test_at: list[int] = Field(default=[], description="Steps whose checkpoints are, too.")
    test_every: int | None = Field(default=None, description="So are the checkpoints of the steps that this divides.")

    submitted: dict[str, Any]
    resolved: dict[str, Any]
    origins: dict[str, Origin]
    seeds: dict[str, int]
    warnings: list[Notice] = []
    attempts: list[AttemptView] = []
    datasets: list[str] = []
    stop_reason: str | None = None
    unserved: str | None = Field(
        default=None,
        description="Why no worker that is there can take it while it is queued, if that is so. Not part of the ETag.",
    )
    start: Start = Start()
    base_sha256: str | None = None
    plan: TransferPlan | None = None
    inheritance: list[str] = Field(default=[], description="Where the values came from, in words.")


class JobPage(View):
    """One page of a list; pass `next_cursor` as `cursor` for the next."""

    items: list[JobView]
    next_cursor: str | None = None


class Event(View):
    """One line of a job's timeline."""

    id: int
    job_id: int
    at: datetime
    kind: str = Field(description="submitted, claimed, phase, checkpoint, warning, stop-requested, ended, requeued, …")
    message: str
    attempt: int | None = None
    data: dict[str, Any] = {}
