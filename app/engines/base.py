"""What every engine's torch-free half provides. The halves of an engine are joined by the string `trainer`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.wire.base import Message
from app.wire.datasets import (
    DatasetRef,
    DatasetView,
    Distances,
    StructureSummary,
    SystemSummary,
    TextSummary,
    TokenizerSummary,
)
from app.wire.metrics import MetricWords
from app.wire.models import BaseFacts, Inventory
from app.wire.problems import Notice, Problem
from app.wire.resolution import Origin
from app.wire.submission import Determinism, Start
from app.wire.transfer import TransferPlan

Json = Any
"""A value that `json.loads` returns."""


@dataclass(frozen=True)
class DataUse:
    """One place of a config that names data."""

    pointer: str
    text: str
    """The text found there; `ref` is None when it is not a dataset reference (a file path, say)."""
    ref: DatasetRef | None
    validates: bool = False
    """Data that nothing is trained on."""


@dataclass(frozen=True)
class DatasetFacts:
    """What resolution may know of a dataset version."""

    name: str
    version: int
    digest: str
    systems: tuple[SystemSummary, ...] = ()
    type_map: tuple[str, ...] = ()
    text: TextSummary | None = None
    tokenizer: TokenizerSummary | None = None
    structures: tuple[StructureSummary, ...] = ()
    distances: Mapping[str, Distances] = field(default_factory=dict)
    """`DatasetSummary.distances`: empty where they were not measured."""

    @property
    def parts(self) -> tuple[str, ...]:
        """What of it a reference can name: its systems, its structures, or its files of text."""
        files = self.text.files if self.text else ()
        return tuple(part.name for part in (*self.systems, *self.structures, *files))


@dataclass(frozen=True)
class DataWords:
    """What is said about an engine's data to those who send some."""

    forms: str
    """What is accepted: `An archive of deepmd/npy systems, or a file …`. One sentence, without its full stop."""
    remedy: str
    """What to do about data that are too much, or too odd, to be read: `Convert it to deepmd/npy systems first`."""
    command: str
    """What one types to send data: `cairn dataset add path/to/systems --name water`."""
    asked_for: tuple[str, ...] = ()
    """Forms that are read only where an upload asks for them, with `form`: `structures`."""
    endings: tuple[str, ...] = ()
    """Ends of names of files that can be no other engine's data: `.jsonl`."""


@dataclass(frozen=True)
class Base:
    """The base model of a submission: what an inspection found, and under which name."""

    name: str
    """`water@3`."""
    sha256: str
    facts: BaseFacts


@dataclass(frozen=True)
class ModelUse:
    """One place of a config that names models: a group's replicas, a checkpoint of a job, or a base model."""

    pointer: str
    text: str


@dataclass(frozen=True)
class Model:
    """A trained model that a job of another kind than train works on, and what is known of it: at least one of the two."""

    name: str
    """`job:17@4000` or `water@3`."""
    sha256: str
    facts: BaseFacts | None = None
    """What an inspection found in a base model."""
    config: Mapping[str, Json] | None = None
    """The resolved config of the training whose checkpoint it is, if that is known."""
    data: Mapping[str, DatasetFacts] = field(default_factory=dict)
    """What that config's references to training data stand for, for kinds that compare structures with them."""


@dataclass
class EngineResolution:
    """An engine's answer: the complete config, one origin per leaf (keyed by JSON pointer), or the problems."""

    config: dict[str, Json]
    origins: dict[str, Origin]
    seeds: dict[str, int]
    total_steps: int
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)
    start_problems: list[Problem] = field(default_factory=list)
    """What is wrong with `Start` itself, with pointers into it: `/branch`."""
    beginning: dict[str, Json] = field(default_factory=dict)
    """Which part of the base each task starts from, and how: equal for submissions that mean the same."""


class Task(Protocol):
    """The torch-free half of a kind of job beside train: what an engine does with models that are there.

    All that the service needs to know of the kind. Its steps are counted, shown and stored as a training's are.
    """

    title: str
    """What it is called: `Model deviation`."""
    unit: str
    """What one of its steps is: `frame`."""
    worker: str
    """Where the torch half is (`worker.engines.base.EngineTask`): `"worker.engines.deepmd.deviation:Deviation"`."""
    on_data: bool
    """Whether `models` and `data` are all that its config needs: the page of a group offers it."""
    report: str | None
    """Name of the file in which it tells errors, of the form `app.wire.measuring.ErrorReport`; None: it measures none.

    One that measures takes `models`, `data` and, for models of several tasks, `head`: so trainings are tested by themselves.
    """
    relaxed: str | None
    """Name of the file in which it tells where structures went, of the form `app.wire.relaxing.RelaxReport`.

    One that does is told of the data that its models were trained on (`Model.data`).
    """
    resumes: bool
    """Whether one that was interrupted goes on where it was; otherwise it begins again with its first step."""
    determinism: Determinism | None
    """The level that all its jobs run at; None: the one submitted."""
    document: type[Message]
    """What a submitted config may say, with defaults. Checked first: the functions below get configs that fit it."""

    def model_uses(self, config: Mapping[str, Json]) -> Iterator[ModelUse]:
        """Yield every place of a config that names models."""

    def data_uses(self, config: Mapping[str, Json]) -> Iterator[DataUse]:
        """Yield every place of a config that names data."""

    def resolve(
        self,
        config: Mapping[str, Json],
        *,
        root_seed: int,
        datasets: Mapping[str, DatasetFacts],
        models: Mapping[str, Sequence[Model]],
    ) -> EngineResolution:
        """Complete a config, pin what it names, and say where every value came from, as `Engine.resolve` does.

        `models` maps each text of `model_uses` to what it stands for; as with `datasets`, what is absent does not
        exist and is reported by the caller. A kind that draws nothing at random returns no seeds.
        """

    def headline(self) -> Sequence[str]:
        """Return the metric keys worth a column in a list, most important first."""


class Engine(Protocol):
    """The torch-free half of an engine. Stateless; importing it costs well under a second and never imports torch."""

    name: str
    title: str
    trainer: str
    """Where the torch half is: `"worker.engines.deepmd.trainer:DeepmdTrainer"`."""
    errands: str
    """Module with `inspect` and `inventory` (`worker.engines.base.Errands`): `"worker.engines.deepmd.errands"`."""
    intake: str
    """Where its datasets are read (`app.engines.intake.report.TakeIn`), in a process of its own: `"app.engines.deepmd.intake:take_in"`."""
    library: str
    """Distribution whose version is the engine's (`deepmd-kit`)."""
    document: str
    """What a config is called as a file: `input.json`."""
    data_words: DataWords
    weights_words: str
    """What files of weights are accepted as base models. One sentence, without its full stop."""
    has_fitting: bool
    """Whether its models have a part of which `Start.fitting` says if it begins anew."""
    exports: Mapping[str, str]
    """What the files of role export are that its checkpoints have, by the ends of their names."""
    metric_words: Mapping[str, MetricWords]
    """What it measures, by chart, in the order of interest: `rmse_f` has `train/rmse_f` and `val/rmse_f/TASK`, `perf/x` itself."""
    tasks: Mapping[str, Task]
    """What it does beside training, by kind of job; everything else here is about trainings."""

    def schema(self) -> dict[str, Json]:
        """Return the JSON schema (draft 2020-12) of a submitted config, for editors."""

    def recognises(self, config: Mapping[str, Json]) -> bool:
        """Return whether a submitted config can be no other engine's. Must survive a malformed config."""

    def examples(self, datasets: Sequence[DatasetView]) -> Mapping[str, str]:
        """Return texts of configs to start from, by what they are for: `""`, the usual training, or `fine-tuning`.

        They name the newest of `datasets` (this engine's, newest first) that fits, else one that is still to be sent.
        """

    def usage(self, dataset: DatasetView) -> str:
        """Return how a config names a dataset, as a piece of JSON: `"training_data": {"systems": ["dataset:cu@3"]}`."""

    def data_uses(self, config: Mapping[str, Json]) -> Iterator[DataUse]:
        """Yield every place of a submitted config that names data. Must survive a malformed config."""

    def resolve(
        self,
        config: Mapping[str, Json],
        *,
        root_seed: int,
        datasets: Mapping[str, DatasetFacts],
        start: Start,
        base: Base | None,
        ranks: int,
    ) -> EngineResolution:
        """Complete a submitted config and say where every value came from: explicit over base over default.

        `datasets` maps the text of each data reference to the dataset it stands for; what is absent does not exist,
        and the caller reports it (`app.resolve`). Everything else wrong is collected in `problems`, never raised, with
        pointers into `config`; with problems the other fields mean nothing. Without a `base` that `start` needs, the
        answer is only what is wrong all the same: what is missing may come from the base. So many `ranks` train
        together: a step takes a batch for each of them.
        """

    def checkpoint_interval(self, config: Mapping[str, Json]) -> int:
        """Return after how many steps a training of this resolved config writes a checkpoint each time."""

    def longer(self, steps: int) -> dict[str, Json]:
        """Return what to submit, with start mode resume, to have a training go on to `steps` and be as it was otherwise."""

    def inventory_order(self, config: Mapping[str, Json]) -> dict[str, Json]:
        """Return what a worker needs to know to list the tensors of a resolved config's model.

        And no more: configs whose orders are equal share one list.
        """

    def plan(
        self, config: Mapping[str, Json], origins: Mapping[str, Origin], start: Start, base: Base, inventory: Inventory
    ) -> TransferPlan | list[Problem]:
        """Say what becomes of every tensor of the base and of a resolved config's model, or why that may not be.

        Pointers of problems are into the submission: `/config/model/…`, `/start/allow`. Not called for start mode
        resume, which takes everything as it is.
        """

    def artifact_keys(self, config: Mapping[str, Json], dataset_digests: Mapping[str, str]) -> Mapping[str, str]:
        """Return key by kind of every derived thing a training of this resolved config can use.

        A key is a digest of all that the thing depends on (dataset content, the config values read, library version).
        `dataset_digests` is keyed by `NAME@VERSION`. The trainer calls the same function, so both sides agree.
        """

    def file_stem(self, job_name: str, config: Mapping[str, Json], seed: int, digest: str) -> str:
        """Return the start of a checkpoint's file name: `water-se_e2_a-s42-9f3c2e`. Safe as a file name."""

    def headline(self) -> Sequence[str]:
        """Return the metric keys worth a column in a list, most important first."""

    def metric_keys(self, config: Mapping[str, Json]) -> frozenset[str] | None:
        """Return every metric that a training of this resolved config may measure; None: it cannot be known."""

    def learning_curve(
        self, config: Mapping[str, Json], steps: Sequence[int], columns: Mapping[str, Sequence[float | None]]
    ) -> Iterator[str]:
        """Yield the lines of the engine's own learning-curve file (DeePMD: `lcurve.out`), newline included.

        `steps` are all recorded steps and `columns` their values by metric key; the engine picks the steps that its
        library would have written under this resolved config.
        """

    def ensemble_commands(self, config: Mapping[str, Json], files: Sequence[str]) -> Sequence[str]:
        """Return the commands with which a shell finds how far models in these files differ on data.

        `config` is the resolved one that all of them were trained with, but for their seeds.
        """

    def component(self, tensor: str) -> str:
        """Return the part of a model that a tensor belongs to, as its name tells; with tasks `TASK: PART`."""

    def learning_curve_name(self) -> str:
        """Return that file's usual name."""
