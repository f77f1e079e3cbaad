"""What becomes of a submission before it is a job: every value with its origin, and what else is like it."""

from typing import Any, Literal

from pydantic import Field

from app.wire.base import View
from app.wire.problems import Notice
from app.wire.states import JobState
from app.wire.submission import OnExisting, Start
from app.wire.transfer import TransferPlan

OriginKind = Literal["explicit", "base", "default", "migrated", "derived", "seed", "service"]


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
