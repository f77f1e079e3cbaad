"""What a client sends and reads about base models: weights to start from."""

import re
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from app.wire.base import Message, View
from app.wire.datasets import NAME_PATTERN
from app.wire.problems import Notice, Problem

_NAMED = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]{0,62})(?:@(?P<version>[1-9][0-9]{0,8}))?$")
_OF_A_JOB = re.compile(r"^job:(?P<job>[1-9][0-9]{0,17})(?:@(?P<step>[0-9]{1,15}))?$")
_GROUP = re.compile(r"^group:(?P<group>[1-9][0-9]{0,17})(?:@(?P<step>[0-9]{1,15}))?$")

ModelState = Literal["inspecting", "ready", "refused"]


class BaseRef(View):
    """`NAME[@VERSION]`, a base model, or `job:ID[@STEP]`, a checkpoint of a job. Without version or step: the newest."""

    name: str | None = None
    version: int | None = None
    job: int | None = None
    step: int | None = None

    @classmethod
    def parse(cls, text: str) -> "BaseRef | None":
        """Return the reference written in `text`, or None when it is not one."""
        if match := _OF_A_JOB.match(text):
            return cls(job=int(match["job"]), step=int(match["step"]) if match["step"] else None)
        if match := _NAMED.match(text):
            return cls(name=match["name"], version=int(match["version"]) if match["version"] else None)
        return None

    def __str__(self) -> str:
        if self.job is not None:
            return f"job:{self.job}" + (f"@{self.step}" if self.step is not None else "")
        return f"{self.name}" + (f"@{self.version}" if self.version is not None else "")


class GroupRef(View):
    """`group:ID[@STEP]`: a checkpoint of every replica of a group. Without a step: the newest of each."""

    group: int
    step: int | None = None

    @classmethod
    def parse(cls, text: str) -> "GroupRef | None":
        """Return the reference written in `text`, or None when it is not one."""
        match = _GROUP.match(text)
        if match is None:
            return None
        return cls(group=int(match["group"]), step=int(match["step"]) if match["step"] else None)


class TensorFacts(View):
    """One tensor of a model: a parameter or a buffer."""

    name: str
    shape: list[int]
    dtype: str = Field(description="As torch names it, without the prefix: float64.")
    is_parameter: bool | None = Field(default=None, description="False: a buffer; None: the file does not tell.")
    sha256: str | None = Field(default=None, description="Of dtype, shape and bytes; only known of a file's tensors.")
    alias_of: str | None = Field(default=None, description="Another tensor of the same model that shares its memory.")


class Inventory(View):
    """Every tensor that a model has, under the engine's own names."""

    tensors: list[TensorFacts]


class BranchFacts(View):
    """One model of a base: its only one, or one task's of several."""

    name: str = Field(description="The task's name; empty for a single-task model.")
    type_map: list[str] = []
    model: dict[str, Any] = Field(description="Its model section, complete, in the engine's own spelling.")
    parameters: int = Field(description="Trainable numbers, shared ones included.")


class BaseFacts(View):
    """What an inspection found in a file of weights."""

    engine: str
    form: str = Field(description="What the file is: 'checkpoint', 'frozen model', 'Cairn checkpoint', …")
    architecture: str = Field(description="In a word or two: 'se_e2_a', 'dpa2, 3 tasks'.")
    library: str | None = Field(default=None, description="Library and version that wrote it, where the file says so.")
    branches: list[BranchFacts]
    tensors: list[TensorFacts]
    parameters: int = Field(description="Trainable numbers of all branches together, shared ones once.")
    step: int | None = None
    has_optimizer: bool = False
    config: dict[str, Any] | None = Field(
        default=None, description="The whole resolved config it was trained with: Cairn's own checkpoints only."
    )
    seed: int | None = None
    seeds: dict[str, int] | None = None
    ranks: int = Field(default=1, description="Processes that trained it together, where the file says so.")
    warnings: list[Notice] = []


class ModelView(View):
    """One immutable version of a base model."""

    id: int
    name: str
    version: int
    engine: str
    state: ModelState
    sha256: str
    md5: str
    size: int
    file_name: str
    source: str = Field(description="How it came: 'upload water.pt', 'job 17, step 4000'.")
    job_id: int | None = None
    step: int | None = None
    created_at: datetime
    architecture: str | None = None
    type_map: list[str] = []
    branches: list[str] = Field(default=[], description="Names of the tasks of a multi-task model.")
    parameters: int | None = None
    problem: Problem | None = Field(default=None, description="Why it was refused.")

    @property
    def ref(self) -> str:
        """How a submission names this version."""
        return f"{self.name}@{self.version}"


class ModelDetail(ModelView):
    """A base model as its own page shows it."""

    facts: BaseFacts | None = None
    used_by: list[int] = Field(default=[], description="Ids of the jobs that start from it, newest first.")


class ModelPage(View):
    """One page of a list; pass `next_cursor` as `cursor` for the next."""

    items: list[ModelView]
    next_cursor: str | None = None


class Promote(Message):
    """Make a base model of a job's checkpoint."""

    job: int = Field(ge=1)
    step: int | None = Field(default=None, ge=0, description="Default: the newest checkpoint.")
    name: str | None = Field(default=None, pattern=NAME_PATTERN, description="Default: job-ID.")
