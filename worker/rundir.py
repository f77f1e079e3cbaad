"""The run directory: all that passes between a supervisor and its trainer passes through these files.

```
RUNDIR/
  spec.json             RunSpec, written by the supervisor
  data/…                link to the cached datasets: data/NAME@VERSION/SYSTEM
  resume/…              files of the checkpoint to continue from, when there is one
  base/FILE             the base model to start from, when there is one and no checkpoint to continue from
  models/N.SUFFIX       the models that a job of another kind than train works on, in the order of spec.models
  artifacts/in/KIND-KEY artifacts the supervisor found; artifacts/out/KIND-KEY those the trainer made (renamed into place)
  log.txt               stdout and stderr of the trainer
  status.json           Status, replaced atomically, at most a few times a second
  events.jsonl          one JSON object a line: kind, message, data
  environment.json      hardware and library versions, written once
  metrics/000000.arrow  one Arrow IPC stream per spooled batch (wire.worker.METRICS_MEDIA_TYPE), renamed into place
  checkpoints/step-N/   files, then manifest.json last; without a manifest a checkpoint does not exist. The metrics of
                        steps 1 to N are spooled before it: nobody repeats those steps once it is registered
  files/NAME            what a job of another kind than train made, renamed into place when it is finished
  ranks/N.json          Result of rank N, when there are several; ranks/meeting is where they meet
  stop                  `checkpoint` or `now`: written by the supervisor, obeyed between two steps (SIGTERM: `checkpoint`)
  result.json           Result, written last: without it the trainer was killed
```
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from app.wire.base import Message
from app.wire.jobs import Cause
from app.wire.states import JobKind
from app.wire.submission import CheckpointPolicy, Determinism, Start
from app.wire.transfer import TransferPlan


class BaseSpec(Message):
    """The base model to start from."""

    name: str = Field(description="`water@3`.")
    file_name: str = Field(description="Of the file in base/.")
    sha256: str


class ModelSpec(Message):
    """A model that a job of another kind than train works on."""

    name: str = Field(description="`job:17@4000` or `water@3`.")
    file_name: str = Field(description="Of the file in models/.")
    sha256: str


class RunSpec(Message):
    """What to do. Complete: a trainer needs nothing but its run directory."""

    kind: JobKind = "train"
    engine: str
    job_name: str
    config: dict[str, Any] = Field(description="Resolved; data named as `dataset:NAME@VERSION/SYSTEM`.")
    submitted: dict[str, Any]
    datasets: dict[str, str] = Field(
        description="Content digest by `NAME@VERSION`; the files are under data/NAME@VERSION."
    )
    seed: int
    seeds: dict[str, int]
    determinism: Determinism
    total_steps: int = Field(description="0: not known before the trainer has seen the data.")
    start: Start = Start()
    base: BaseSpec | None = None
    plan: TransferPlan | None = Field(default=None, description="What becomes of every tensor; goes with `base`.")
    models: list[ModelSpec] = Field(default=[], description="Not for kind train.")
    resume_step: int | None = Field(
        default=None, description="Step of the checkpoint in resume/; None: from the start."
    )
    checkpoints: CheckpointPolicy
    file_stem: str
    ranks: int = Field(default=1, ge=1, description="Processes that train together, on a GPU each.")
    threads: int | None = Field(default=None, description="CPU threads of the trainer; None: all cores.")


class Status(Message):
    """Where the trainer stands."""

    phase: str
    step: int
    total_steps: int = Field(default=0, description="0: not known yet.")
    steps_per_s: float | None = None


class Manifest(Message):
    """The last file of a checkpoint to be written."""

    step: int
    files: dict[str, dict[str, Any]] = Field(description="By name: role, sha256, md5, size.")
    metrics: dict[str, float | None] = {}
    fingerprint: str
    generators: dict[str, str] = Field(default={}, description="SHA-256 of the state of every random generator.")


class Result(Message):
    """How the training ended."""

    outcome: Literal["completed", "stopped", "failed", "interrupted"]
    step: int
    cause: Cause | None = None


class RunDir:
    """Paths inside a run directory, and atomic writes into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spec = root / "spec.json"
        self.data = root / "data"
        self.resume = root / "resume"
        self.base = root / "base"
        self.models = root / "models"
        self.artifacts_in = root / "artifacts" / "in"
        self.artifacts_out = root / "artifacts" / "out"
        self.log = root / "log.txt"
        self.status = root / "status.json"
        self.events = root / "events.jsonl"
        self.environment = root / "environment.json"
        self.metrics = root / "metrics"
        self.checkpoints = root / "checkpoints"
        self.files = root / "files"
        self.ranks = root / "ranks"
        self.stop = root / "stop"
        self.result = root / "result.json"

    def create(self) -> None:
        """Make the directories."""
        made = (
            self.data,
            self.resume,
            self.base,
            self.models,
            self.artifacts_in,
            self.artifacts_out,
            self.metrics,
            self.checkpoints,
            self.files,
        )
        for path in made:
            path.mkdir(parents=True, exist_ok=True)

    def read_spec(self) -> RunSpec:
        """Return what to do."""
        return RunSpec.model_validate_json(self.spec.read_bytes())


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` so that a reader sees the old file or the new one, whole; `durable`: even after a power cut."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Message | Mapping[str, Any], *, durable: bool = True) -> None:
    """Write a message or a plain object, atomically."""
    text = value.model_dump_json() if isinstance(value, Message) else json.dumps(value)
    write_atomically(path, text.encode(), durable=durable)


def link_or_copy(source: Path, target: Path) -> None:
    """Let a file that does not change be there under another name, too."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
