"""What a client sends to have a job."""

from typing import Annotated, Any, Literal

from pydantic import Field

from app.wire.base import MAX_NAME, Message
from app.wire.states import JobKind

StartMode = Literal["scratch", "init", "finetune", "resume"]

Determinism = Literal["strict", "seeded", "fast"]

OnExisting = Literal["resume", "reuse", "new", "fail"]
"""What to do when the same training (equal `JobView.digest`) is here already.

resume: go on from its newest good checkpoint. reuse: no new training, the one there is the answer. new: train from the
start all the same. fail: refuse.
"""

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
    name: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)
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
