"""What a client sends and reads about jobs."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from app.wire.base import Md5, Message, Sha256, View
from app.wire.problems import Notice
from app.wire.transfer import TransferPlan

JobKind = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,15}$")]
"""train, or what else the engine does (`EngineView.tasks`): an unknown kind is refused with the names there are."""
JobState = Literal["checking", "queued", "running", "stopping", "paused", "completed", "failed", "cancelled"]
StartMode = Literal["scratch", "init", "finetune", "resume"]
Determinism = Literal["strict", "seeded", "fast"]
OriginKind = Literal["explicit", "base", "default", "migrated", "derived", "seed", "service"]

Verdict = Literal["identical", "identical-so-far", "diverged", "not-comparable"]
"""What comparing two runs bit for bit says.

identical: both ended at the same step, and all that both recorded is equal. identical-so-far: the same, but one goes on
or ended earlier. diverged: a metric or a fingerprint differs. not-comparable: nothing was recorded of the same step.
"""

OnExisting = Literal["resume", "reuse", "new", "fail"]
"""What to do when the same training (equal `JobView.digest`) is here already.

resume: go on from its newest good checkpoint. reuse: no new training, the one there is the answer. new: train from the
start all the same. fail: refuse.
"""

FINAL_STATES: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
"""States in which a job is over. Only a retry, which somebody has to ask for, leaves failed and cancelled."""

MAX_SEED = 2**31 - 1
"""Largest root seed: every library in use accepts a non-negative 31-bit integer."""

MAX_REPLICAS = 64
"""Largest group of replicas."""

MAX_GPUS = 64
"""Most GPUs of one training. They are those of one worker."""


class Start(Message):
    """What the weights start from.

    scratch: from seeds. init: weights and structure of a base. finetune: the same, then the output bias is refitted to
    the new data. resume: a checkpoint goes on where it stopped, optimizer and all.
    """

    mode: StartMode = "scratch"
    base: str | None = Field(
        default=None,
        max_length=100,
        description="`NAME[@VERSION]` of a base model, or `job:ID[@STEP]`. Needed by every mode but scratch.",
    )
    branch: str | dict[str, str] | None = Field(
        default=None,
        description="Which task of a multi-task base. For a multi-task training: task of the base by task of the "
        "training; default: the one of the same name.",
    )
    fitting: Literal["reuse", "new"] | dict[str, Literal["reuse", "new"]] | None = Field(
        default=None,
        description="Whether the fitting net starts from the base's (reuse, the default) or from its seed; per task.",
    )
    on_mismatch: Literal["error", "adapt"] = Field(
        default="adapt",
        description="adapt: output layers and what depends on the type map may differ from the base; each is listed. "
        "error: nothing may.",
    )
    allow: list[str] = Field(
        default=[],
        max_length=100,
        description="Config keys, with all below them, whose difference from the base may reinitialise more than that: "
        "`model.descriptor.repformer.nlayers`.",
    )


class CheckpointPolicy(Message):
    """When checkpoints are written and which are kept on the server."""

    every_steps: int | None = Field(
        default=None,
        ge=1,
        description="Steps between checkpoints; default: what the config says, in the engine's own words.",
    )
    keep_last: int = Field(default=5, ge=2, description="How many of the newest checkpoints are kept.")
    keep_best: str | None = Field(
        default=None, max_length=200, description="Also the one with the lowest value of this metric: `val/rmse_f`."
    )
    keep_every: int | None = Field(default=None, ge=1, description="Also those of every step divisible by this.")


class Resources(Message):
    """What a job takes of the worker that runs it."""

    gpus: int = Field(
        default=1,
        ge=1,
        le=MAX_GPUS,
        description="GPUs of one worker that train together, each with batches of its own: a step takes that many "
        "batches. On a worker without GPUs these are processes on the CPU.",
    )


class JobSubmit(Message):
    """A submission. `config` is the engine's own input document."""

    config: dict[str, Any]
    engine: str = Field(
        default="",
        description="Left out: the one whose config this is; else that of the base; else the first there is.",
    )
    kind: JobKind = "train"
    name: str | None = Field(default=None, min_length=1, max_length=120)
    start: Start = Start()
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED, description="Root seed; drawn and recorded when absent.")
    determinism: Determinism = "seeded"
    priority: int = Field(default=0, ge=-100, le=100, description="Higher runs first.")
    checkpoints: CheckpointPolicy = CheckpointPolicy()
    resources: Resources = Resources()
    tags: list[str] = Field(default=[], max_length=20)
    test_on: list[Annotated[str, Field(min_length=1, max_length=300)]] = Field(
        default=[],
        max_length=20,
        description="Held-out data, `dataset:NAME[@VERSION][/SYSTEM]`, of a training of several tasks `TASK=dataset:…`: "
        "once it has completed, its last checkpoint is tested on each, by a job of its own.",
    )
    test_at: list[Annotated[int, Field(ge=1, lt=2**63)]] = Field(
        default=[],
        max_length=100,
        description="Steps whose checkpoints are tested on them as well, once they are there.",
    )
    test_every: int | None = Field(
        default=None, ge=1, lt=2**63, description="So are the checkpoints of the steps that this divides."
    )
    replicas: int = Field(
        default=1,
        ge=1,
        le=MAX_REPLICAS,
        description="Trainings that differ in nothing but their seeds, all derived from the one root, as a group.",
    )
    on_existing: OnExisting | None = Field(
        default=None,
        description="When the same training is here already; default: resume an interrupted one, ask (409) about a "
        "completed one.",
    )


class LosingCandidate(View):
    """A value that lost against the one in force."""

    origin: OriginKind
    value: Any
    source: str | None = None


class Origin(View):
    """Where one leaf of the resolved config came from. Keyed by JSON pointer in `Resolution.origins`."""

    origin: OriginKind
    source: str | None = Field(default=None, description="Digest of the base, schema version, name of the seed rule, …")
    note: str | None = Field(default=None, description="What a person should know: 'replaced decay_steps 5000', …")
    losing: list[LosingCandidate] = []
    ignored: str | None = Field(default=None, description="Set when an explicit value cannot take effect: the reason.")


class Resolution(View):
    """The resolved config, complete: every leaf has exactly one origin."""

    config: dict[str, Any]
    origins: dict[str, Origin]
    digest: str
    seed: int
    seeds: dict[str, int] = Field(description="Seed of every component, by name.")
    total_steps: int
    warnings: list[Notice] = []


class CostHints(View):
    """What a training will take, as far as its config tells."""

    steps: int = Field(description="0: not known before a worker has seen the data.")
    frames: int = Field(description="Of all training data that are atoms.")
    entries: int = Field(default=0, description="Documents or conversations of all training data that are text.")
    parameters: int | None = Field(default=None, description="Trainable; None until a worker has listed them.")
    checkpoint_bytes: int | None = Field(default=None, description="Estimated size of one checkpoint.")


class TwinFile(View):
    """One checkpoint of a twin that the weight check looked at."""

    job: int
    step: int
    intact: bool
    problem: str | None = Field(default=None, description="What is wrong with it: missing, sha256 differs, …")


class WeightCheck(View):
    """What was looked for before training, what was found, whether every hash held, what was decided and why."""

    identity: str = Field(description="SHA-256 of all that decides the training (`JobView.digest`).")
    policy: OnExisting | None = None
    twins: dict[int, JobState] = Field(default={}, description="Other jobs of the same identity, newest first.")
    checkpoints: list[TwinFile] = Field(default=[], description="Those that were hashed again, newest first.")
    decision: Literal["scratch", "resume", "reuse", "refused"]
    twin: int | None = Field(default=None, description="The job that the decision is about: reused, or gone on from.")
    step: int | None = Field(default=None, description="Of the checkpoint that the training goes on from.")
    summary: str = Field(description="All of it in one or two sentences.")


class Check(Resolution):
    """Answer to a config that was resolved without being submitted."""

    engine: str = Field(description="Which it is for.")
    start: Start
    base: str | None = Field(default=None, description="The base with its version: `water@3`.")
    base_sha256: str | None = None
    plan: TransferPlan | None = None
    plan_pending: str | None = Field(default=None, description="Why there is no plan yet; ask again.")
    group_seed: int | None = Field(
        default=None, description="With replicas: the root of the group. All else is that of the first replica."
    )
    replica_seeds: list[int] = Field(default=[], description="With replicas: the root seed of each, in their order.")
    inheritance: list[str] = Field(default=[], description="Where the values came from, in words.")
    hints: CostHints
    weight_check: WeightCheck | None = Field(
        default=None, description="What would be decided about other jobs that train the same."
    )


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


class CheckpointFile(View):
    """One file of a checkpoint."""

    name: str
    role: Literal["checkpoint", "state", "export"] = Field(
        description="checkpoint: the engine's own file, which a training goes on from. export: its weights for other programs. "
        "state: what beside it, or in a job that trains nothing alone, is needed to go on."
    )
    sha256: Sha256
    md5: Md5
    size: int


class CheckpointView(View):
    """A registered checkpoint: the server has re-hashed every file."""

    id: int
    job_id: int
    attempt: int
    step: int
    created_at: datetime
    files: list[CheckpointFile]
    metrics: dict[str, float | None] = {}
    fingerprint: str | None = Field(
        default=None,
        description="SHA-256 over every tensor's name, dtype, shape and bytes; of a job that trains nothing over its state.",
    )
    kept: list[str] = Field(
        default=[], description="Why retention keeps it: `newest`, `best val/rmse_f`, `every 1000`, `base water@3`."
    )
