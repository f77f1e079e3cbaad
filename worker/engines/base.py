"""What every engine's torch half provides, and what the loop gives it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, SupportsFloat, runtime_checkable

from app.wire.models import BaseFacts, Inventory
from worker.rundir import RunSpec

if TYPE_CHECKING:
    from worker.ranks import Ranks  # has torch, which only a trainer may import


class Context(Protocol):
    """The trainer's way out: everything it says goes to files of the run directory."""

    root: Path
    """The run directory."""
    ranks: "Ranks"
    """The processes that train together; connected once the trainer is made."""

    def phase(self, name: str) -> None:
        """Say what happens now: `data`, `statistics`, `model`, `training` and so on."""

    def heed_stop(self) -> None:
        """Do not return when the job is to end: for work of minutes before the first step, which is then done again.

        Costs one look at the file system.
        """

    def event(self, kind: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        """Put something on the job's timeline."""

    def artifact(self, kind: str, key: str) -> Path | None:
        """Return the path of a kept artifact, or None when there is none."""

    def keep(self, kind: str, key: str, data: bytes) -> None:
        """Keep an artifact for every later job whose key is the same."""

    def keep_file(self, kind: str, key: str, path: Path) -> None:
        """Keep a file below the run directory as an artifact; it is moved, whatever its size."""

    def publish(self, path: Path) -> None:
        """Hand over a finished file below the run directory: under its own name it becomes the job's."""


class EngineTrainer(Protocol):
    """One training. Made in the trainer process; `step` is called with 1, 2, …, total_steps, possibly from the middle on.

    With several ranks each has a trainer. A step takes batch number (step - 1) * count + rank of the one order of data,
    and the mean of all gradients; only the main rank validates and saves.

    Everything the model becomes must be a function of (spec, step): no state that `save` does not hold.
    """

    total_steps: int
    """What the spec says; where that is 0, a function of the resolved config and the data."""
    checkpoint_every: int
    validate_every: int
    """0: never."""

    def __init__(self, spec: RunSpec, context: Context) -> None: ...

    def train_step(self, step: int) -> Mapping[str, SupportsFloat]:
        """Do optimisation step `step` (1-based) and return its metrics, `train/loss` and `lr` among them.

        Values are numbers, or 0-d tensors on the device: those are fetched in batches, so that no step waits for one.
        """

    def validate(self, step: int) -> Mapping[str, SupportsFloat]:
        """Measure on validation data; must leave no trace in later steps. Keys under `val/`."""

    def non_finite_weight(self) -> str | None:
        """Return the name of a weight that is NaN or infinite, or None. Asked before every checkpoint."""

    def rank_state(self) -> Mapping[str, Any]:
        """Return what this rank has for itself: `rng`, the state of the global generators, and whatever else differs.

        Tensors on the host, lists and numbers.
        """

    def save(self, directory: Path, step: int, others: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
        """Write the full state after `step` into an empty directory; return role by file name.

        `others` are the `rank_state` of ranks 1, 2, …: `restore` gives each its own.
        """

    def restore(self, directory: Path) -> int:
        """Load what `save` wrote and return its step; the next call is `train_step(step + 1)`."""

    def fingerprint(self) -> str:
        """Return SHA-256 over every tensor's name, dtype, shape and bytes, names sorted."""

    def generators(self, step: int) -> Mapping[str, str]:
        """Return after `step` the digests of what decides later draws beside Python's, NumPy's and torch's generators."""


class EngineTask(Protocol):
    """One job of another kind than train (`app.engines.base.Task`). Made in the trainer process.

    After an interruption it is done again from its first step, unless it is a `ResumableTask`: all that it makes must be
    a function of the spec.
    """

    total_steps: int
    """0: not known before the last one is done."""
    phase: str
    """What it does, in a word: `evaluating`."""

    def __init__(self, spec: RunSpec, context: Context) -> None: ...

    def steps(self) -> Iterator[Mapping[str, SupportsFloat]]:
        """Do step 1, 2, … and yield the metrics of each; then publish the files and end."""


@runtime_checkable
class ResumableTask(EngineTask, Protocol):
    """A task that goes on after an interruption (`app.engines.base.Task.resumes`), and makes what it would have made."""

    @property
    def returns_to(self) -> int:
        """Return the step that what `save` writes now goes on after: the one just done, or an earlier one."""

    def save(self, directory: Path) -> Mapping[str, str]:
        """Write what `restore` needs into an empty directory; return role by file name: `state` for all.

        Called between two steps, of which none begins before it is done. A file that was there the last time may be a
        hard link.
        """

    def restore(self, directory: Path) -> int:
        """Load what `save` wrote and return its step; `steps`, called afterwards, begins with the next one."""

    def fingerprint(self) -> str:
        """Return SHA-256 over all that `save` would write; the same however it is spread over files."""

    def leave(self) -> None:
        """Publish what there is so far, for it may be all there will be. The last call to a task that is told to stop.

        Files of the same names replace it when the job goes on.
        """


class Errands(Protocol):
    """A module: what an engine does for the control plane beside training. Runs in a process of its own, under limits."""

    def inspect(self, path: Path, file_name: str) -> BaseFacts:
        """Look into a file of weights without running any code from it.

        Raises:
            RefusedFile: It is not what it claims to be; the message says why and what to do.
        """

    def inventory(self, order: Mapping[str, Any]) -> Inventory:
        """List the tensors of a model that `Engine.inventory_order` describes.

        Raises:
            RefusedFile: The library cannot build it.
        """


class RefusedFile(Exception):
    """A file, or a model, that cannot be used. `str()` is for its owner."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
