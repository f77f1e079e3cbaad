"""The worker protocol: every message between a worker and the control plane.

Transport: HTTP under `/api/v1/worker`. A worker token opens `hello`, `presence`, `bye` and `claim`; everything about an attempt
needs the token that `claim` returned, which dies with the attempt. A superseded or ended attempt gets 409 with code
`attempt-superseded` on every write: the worker then kills its trainer and forgets the attempt.

| call | body | answer |
|---|---|---|
| `POST /hello` | `Hello` | `Welcome`, or 409 `protocol-mismatch` |
| `POST /presence` | `Presence` | `PresenceAnswer` |
| `POST /bye` | `Bye` | 204: the worker has stopped, with nothing left to do |
| `POST /claim` | `ClaimRequest` | `Claim` (of a more urgent job, when one waits), or 409 `not-claimable` |
| `POST /reserve` | `Reserve` | `ReserveAnswer`: whether to go on keeping slots free for a job that takes several |
| `POST /attempts/{id}/heartbeat` | `Heartbeat` | `HeartbeatAnswer` |
| `POST /attempts/{id}/metrics?seq=N` | Arrow IPC stream (see `METRICS_MEDIA_TYPE`) | 204; a repeated `seq` is a 204 that changes nothing |
| `POST /attempts/{id}/logs?offset=BYTES` | the bytes of the log from that offset | `LogAnswer` |
| `POST /attempts/{id}/events` | `AttemptEvents` | 204; a repeated `seq` changes nothing |
| `PUT /attempts/{id}/environment` | a JSON object | 204 |
| `HEAD /blobs/{sha256}` | | 200 when the server has it; else 404 with `Upload-Offset`, the bytes that came in pieces |
| `PUT /blobs/{sha256}` | the bytes | 201 or 200; 422 `digest-mismatch` when they hash to something else; 507 `disk-full` |
| `PUT /blobs/{sha256}` with `Content-Range` | the next piece of a large one | 202 with `Upload-Offset`, after the last as above; 409 `upload-offset` when it is not the next |
| `GET /blobs/{sha256}` | | the bytes; Range honoured |
| `GET /artifacts/{kind}/{key}` | | `ArtifactView` or 404 |
| `PUT /artifacts/{kind}/{key}` | `ArtifactPut` (its blob uploaded first) | `ArtifactView` of the one that stands (first writer wins) |
| `GET /attempts/{id}/retention` | | `CheckpointPolicy`: which checkpoints the job keeps as of now; people change it while it runs |
| `POST /attempts/{id}/checkpoints` | `CheckpointPut` (its blobs uploaded first) | `CheckpointView` |
| `POST /attempts/{id}/files` | `JobFilePut` (its blob uploaded first) | 204; the same name again replaces the file |
| `POST /attempts/{id}/end` | `End` | `EndAnswer` |
| `POST /errands/{id}/claim` | `ErrandClaim` | `ErrandGrant`, or 409 `not-claimable` |
| `GET /errands/{id}/blob` | | the bytes of its file; Range honoured; needs the grant's token |
| `POST /errands/{id}/result` | `ErrandResult` | 204; 409 `errand-superseded` when somebody else has it now |

An errand is a small piece of work that needs an engine's library but trains nothing: looking into a file of weights, or
listing the tensors of a model. Workers do them beside their trainings, on the CPU.
"""

from typing import Any, Literal

from pydantic import Field

from app.wire.base import Md5, Message, Sha256, View
from app.wire.checkpoints import CheckpointFile
from app.wire.jobs import Cause
from app.wire.problems import Problem
from app.wire.states import JobKind, JobState
from app.wire.submission import CheckpointPolicy, Determinism, Start
from app.wire.transfer import TransferPlan

PROTOCOL_VERSION = 5
"""Raised when a worker and a server of different values could misunderstand each other."""

METRICS_MEDIA_TYPE = "application/vnd.apache.arrow.stream"
"""One record batch: column `step` (int64, strictly increasing) and one nullable float64 column per metric key.

Null: not measured at this step. NaN and ±Inf are values like any other. Keys are `group/name` or, with several tasks,
`group/name/task`: `train/loss`, `train/rmse_f`, `val/rmse_f/H2O`, `lr`, `perf/step_s`. What stands under `perf/` is
wall-clock time and differs between identical runs.
"""


class Gpu(View):
    """One accelerator of a worker."""

    index: int
    name: str
    memory_bytes: int
    driver: str | None = None


class Hello(Message):
    """A worker process introduces itself; sent again after every restart."""

    protocol: int = PROTOCOL_VERSION
    worker_id: str = Field(description="Random, new for every worker process.")
    name: str = Field(description="Speaking name, `host:pid` unless configured.")
    host: str
    engines: dict[str, str] = Field(description="Engine name to library version.")
    slots: int
    gpus: list[Gpu] = []
    versions: dict[str, str] = {}


class Welcome(View):
    """How often to speak."""

    heartbeat_s: float
    lease_s: float


class Presence(Message):
    """A worker is alive, whether or not it has work."""

    worker_id: str
    busy_slots: int
    attempts: list[int] = Field(default=[], description="Ids of the attempts it supervises.")
    gpus: list[dict[str, Any]] = []


class PresenceAnswer(View):
    """Whether the worker may take more work."""

    drain: bool = False


class Bye(Message):
    """A worker process has stopped in good order; it is not heard of again."""

    worker_id: str


class ClaimRequest(Message):
    """A worker answers the doorbell."""

    worker_id: str
    job_id: int
    attempt: int
    slots: int = Field(default=1, ge=1, description="That it has taken: no job of more is granted.")


class Reserve(Message):
    """A worker without enough free slots for the job that it was rung for keeps those it has until there are enough."""

    worker_id: str
    job_id: int
    attempt: int


class ReserveAnswer(View):
    """Whether the job still waits: for as long as it is asked, nobody else is rung for it."""

    wait: bool


class DatasetGrant(View):
    """A dataset version that the attempt may read: a tar of systems, stored as a blob."""

    name: str
    version: int
    digest: str
    blob_sha256: str
    size: int


class CheckpointGrant(View):
    """The checkpoint to continue from."""

    step: int
    files: list[CheckpointFile]


class BaseGrant(View):
    """The base model to start from."""

    name: str = Field(description="`water@3`.")
    file_name: str
    sha256: str
    size: int


class ModelGrant(View):
    """A model that a job of another kind than train works on."""

    name: str = Field(description="`job:17@4000` or `water@3`.")
    file_name: str
    sha256: str
    size: int


class Claim(View):
    """All that an attempt needs to know."""

    job_id: int
    job_name: str
    kind: JobKind
    attempt: int
    attempt_id: int
    token: str
    heartbeat_s: float
    lease_s: float
    engine: str
    config: dict[str, Any] = Field(description="The resolved config; data named as `dataset:NAME@VERSION/SYSTEM`.")
    submitted: dict[str, Any]
    seed: int
    seeds: dict[str, int]
    determinism: Determinism
    total_steps: int = Field(description="0: not known before the trainer has seen the data.")
    ranks: int = Field(default=1, description="Processes that train together, each in a slot of its own.")
    start: Start
    base: BaseGrant | None = Field(
        default=None, description="Needed as long as there is no checkpoint of the job's own to go on from."
    )
    plan: TransferPlan | None = Field(default=None, description="What becomes of the base's tensors; not for resume.")
    resume_from: CheckpointGrant | None = Field(
        default=None, description="The job's newest checkpoint; for start mode resume and before its first, the base."
    )
    datasets: list[DatasetGrant] = []
    models: list[ModelGrant] = Field(default=[], description="In the order of the submission; not for kind train.")
    checkpoints: CheckpointPolicy
    file_stem: str = Field(description="Start of every checkpoint's file name: `water-se_e2_a-s42-9f3c2e`.")
    next_event_seq: int = 0


class Heartbeat(Message):
    """An attempt is alive and stands here."""

    phase: str
    step: int
    total_steps: int = Field(default=0, ge=0, lt=2**53, description="As the trainer knows them; 0: not known yet.")
    steps_per_s: float | None = None


class HeartbeatAnswer(View):
    """continue, or stop: `checkpoint` first, or `now`. A stop is repeated until the attempt ends."""

    action: Literal["continue", "stop"]
    how: Literal["checkpoint", "now"] = "checkpoint"
    reason: str | None = None


class LogAnswer(View):
    """How many bytes of the log the server has: continue from there."""

    size: int


INEXACT = "inexact"
"""Kind of an event that says why what an execution goes on with is not, bit for bit, what it would have been."""


class AttemptEvent(Message):
    """Something the trainer or its supervisor wants on the job's timeline."""

    seq: int
    kind: str
    message: str
    data: dict[str, Any] = {}


class AttemptEvents(Message):
    """Events in order."""

    events: list[AttemptEvent]


class ArtifactPut(Message):
    """A derived thing worth keeping, say the statistics of a dataset."""

    blob_sha256: Sha256
    size: int
    meta: dict[str, Any] = {}


class ArtifactView(View):
    """The artifact that stands under a key."""

    kind: str
    key: str
    blob_sha256: str
    size: int
    meta: dict[str, Any] = {}


class CheckpointPut(Message):
    """A checkpoint whose blobs the server has."""

    step: int
    files: list[CheckpointFile]
    metrics: dict[str, float | None] = {}
    fingerprint: str | None = None
    generators: dict[str, str] = Field(
        default={}, description="SHA-256 of the state of every random generator, by name."
    )


class JobFilePut(Message):
    """A file that the attempt made beside its checkpoints; its blob is uploaded first."""

    name: str = Field(max_length=200, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")
    media_type: str = Field(
        default="application/octet-stream", max_length=120, pattern=r"^[a-z]+/[A-Za-z0-9.+-]+(; charset=utf-8)?$"
    )
    sha256: Sha256
    md5: Md5
    size: int


class End(Message):
    """The worker proposes how the attempt ended; the server decides what becomes of the job.

    completed: all steps done. failed: see cause. stopped: the server had asked for it. interrupted: the worker had to go
    (shutdown, killed trainer); the job can go on elsewhere.
    """

    outcome: Literal["completed", "failed", "stopped", "interrupted"]
    step: int
    total_steps: int = Field(default=0, ge=0, lt=2**53, description="As the trainer knows them; 0: not known yet.")
    cause: Cause | None = None


class EndAnswer(View):
    """What the server made of it."""

    job_state: JobState


ErrandKind = Literal["inspect", "inventory"]


class ErrandClaim(Message):
    """A worker answers the ring for an errand."""

    worker_id: str


class ErrandGrant(View):
    """All that an errand needs to know."""

    errand_id: int
    kind: ErrandKind
    engine: str
    order: dict[str, Any] = Field(description="inventory: what `Engine.inventory_order` returned.")
    blob_sha256: str | None = Field(default=None, description="inspect: the file.")
    file_name: str | None = None
    size: int | None = None
    token: str
    lease_s: float


class ErrandResult(Message):
    """What came of an errand: exactly one of the two.

    inspect: `BaseFacts` as JSON, or the problem with the file. inventory: `Inventory`, or why it cannot be built.
    """

    result: dict[str, Any] | None = None
    problem: Problem | None = None
