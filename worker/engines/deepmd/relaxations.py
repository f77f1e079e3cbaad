"""All runs of a relaxation job: read from its run directory, done once in this process, in whichever form and threads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from deepmd.infer.deep_pot import DeepPot
from deepmd.pt.entrypoints.main import freeze

from app.engines.deepmd.relaxing import STARTS
from app.engines.deepmd.structures import FILE, Structure, Structures
from app.wire.datasets import DatasetRef
from worker.engines.deepmd import opening
from worker.engines.deepmd.downhill import Descent, Run
from worker.engines.deepmd.trajectories import Frame, Trajectory
from worker.failures import TrainingFailure
from worker.rundir import ModelSpec, RunDir, RunSpec


@dataclass(frozen=True)
class Work:
    """A job's runs, with its models open in one form."""

    run: RunDir
    spec: RunSpec
    models: list[DeepPot]

    @cached_property
    def runs(self) -> list[Run]:
        """Every model with every structure from every start, in this order."""
        return planned(self.spec, structures(self.spec, self.run))

    def descent(self, one: Run) -> Descent:
        """Return a run that is about to begin."""
        return Descent(one, self.models[one.model], self.spec.config, self.spec.seeds.get(STARTS))

    def done(self, place: Path) -> Iterator[Frame]:
        """Do all runs and yield every frame; what is done is kept below `place`."""
        place.mkdir(exist_ok=True)
        for number, one in enumerate(self.runs):
            found: list[Frame] = []
            for frame in self.descent(one).frames():
                found.append(frame)
                yield frame
            Trajectory.of(found).save(kept(place, number))


def kept(place: Path, number: int) -> Path:
    """Return where the trajectory of a run is."""
    return place / f"{number}.npz"


def planned(spec: RunSpec, found: list[tuple[str, Structure]]) -> list[Run]:
    """Return the runs, under names that no two share and that the keys of metrics may have."""
    names = [structure.name for _, structure in found]
    runs = []
    for model in range(len(spec.models)):
        for source, structure in found:
            ref = DatasetRef.parse(source)
            clashes = names.count(structure.name) > 1
            name = f"{ref.name}-{ref.version}-{structure.name}" if ref and clashes else structure.name
            name += f".m{model + 1}" if len(spec.models) > 1 else ""
            starts = spec.config["starts"]
            for start in range(1, starts + 1):
                named = f"{name}.{start}" if starts > 1 else name
                runs.append(Run(named, model, source, structure, start))
    return runs


def structures(spec: RunSpec, run: RunDir) -> list[tuple[str, Structure]]:
    """Return every structure with how the config names it. A dataset is read once, however many of it are named."""
    read = cache(_named)
    found = [(text, _of_dataset(text, run, read)) for text in spec.config["structures"]]
    inline = [Structure.model_validate(one) for one in spec.config["inline"]]
    return found + [(one.name, one) for one in inline]


def _named(path: Path) -> dict[str, Structure]:
    return {one.name: one for one in Structures.model_validate_json(path.read_bytes()).structures}


def _of_dataset(text: str, run: RunDir, read: Callable[[Path], dict[str, Structure]]) -> Structure:
    ref = DatasetRef.parse(text)
    if ref is None or ref.version is None or ref.system is None:
        raise TrainingFailure("data", f"{text!r} is not a resolved reference to a structure.")
    named = read(run.data / f"{ref.name}@{ref.version}" / FILE)
    if ref.system not in named:
        raise TrainingFailure("data", f"{text} is not on this worker: the dataset has no such structure.")
    return named[ref.system]


def model_file(run: RunDir, model: ModelSpec, head: str | None, form: str) -> tuple[Path, str | None]:
    """Return the file to run a model from, and which task of it is meant: frozen first, if that is asked for."""
    path = opening.named(run, model, head)
    if path.suffix == ".pth":
        return path, None
    if form == "checkpoint":
        return path, head
    target = path.with_name(f"{path.stem}-frozen.pth")
    if not target.exists():
        freeze(str(path), str(target), head=head)
    if not target.exists():
        message = f"{model.name} cannot be frozen, so it cannot be run from that form."
        raise TrainingFailure("library", message, hint='Say "form": "checkpoint", and leave `form` out of `compare`.')
    return target, None
