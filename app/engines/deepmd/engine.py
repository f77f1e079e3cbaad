"""The DeePMD engine: what `app.engines.base.Engine` asks for, put together from this package."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.engines.base import Base, DatasetFacts, DataUse, EngineResolution, Task
from app.engines.deepmd import (
    data,
    deviation,
    document,
    ensemble,
    examples,
    freezing,
    inventory,
    lcurve,
    metrics,
    naming,
    relaxing,
    resolution,
    schema,
    testing,
    transfer,
)
from app.engines.deepmd.transfer.names import SINGLE, Name
from app.wire.datasets import DatasetView
from app.wire.metrics import MetricWords
from app.wire.models import Inventory
from app.wire.problems import Problem
from app.wire.resolution import Origin
from app.wire.submission import Start
from app.wire.transfer import TransferPlan

Json = Any


class DeepmdEngine:
    """DeePMD-kit models trained with the PyTorch backend."""

    name = "deepmd"
    title = "DeePMD-kit"
    trainer = "worker.engines.deepmd.trainer:DeepmdTrainer"
    errands = "worker.engines.deepmd.errands"
    intake = "app.engines.deepmd.intake:take_in"
    library = "deepmd-kit"
    document = "input.json"
    data_words = data.WORDS
    weights_words = "A checkpoint (`.pt`) of `dp --pt train`, a frozen model (`.pth`), or a checkpoint of Cairn"
    has_fitting = True
    exports: Mapping[str, str] = {}
    metric_words: Mapping[str, MetricWords] = metrics.WORDS
    tasks: Mapping[str, Task] = {
        "test": testing.ModelTest(),
        "freeze": freezing.Freezing(),
        "model-devi": deviation.ModelDeviation(),
        "relax": relaxing.Relaxing(),
    }

    def schema(self) -> dict[str, Json]:
        """Return the JSON schema of an `input.json`."""
        return schema.json_schema()

    def recognises(self, config: Mapping[str, Json]) -> bool:
        """Return whether there is a model with a descriptor, or what DeePMD-kit 1.x and 2.x called so."""
        return document.is_input(config)

    def examples(self, datasets: Sequence[DatasetView]) -> Mapping[str, str]:
        """Return a training from scratch and a fine-tuning."""
        return examples.filled([one for one in datasets if not one.summary.structures])

    def usage(self, dataset: DatasetView) -> str:
        """Return the section of training data, or the structures to relax."""
        if dataset.summary.structures:
            return f'"structures": ["{dataset.ref}"]'
        return f'"training_data": {{"systems": ["{dataset.ref}"], "batch_size": "auto"}}'

    def data_uses(self, config: Mapping[str, Json]) -> Iterator[DataUse]:
        """Yield every text of a submitted config that names data."""
        return data.data_uses(config)

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
        """Complete a submitted config, or say everything that is wrong with it."""
        return resolution.resolve(config, root_seed=root_seed, datasets=datasets, start=start, base=base, ranks=ranks)

    def checkpoint_interval(self, config: Mapping[str, Json]) -> int:
        """Return its `save_freq`."""
        return int(config["training"]["save_freq"])

    def longer(self, steps: int) -> dict[str, Json]:
        """Return the number of steps: a resumed training takes all else from its base, and its schedule is re-derived."""
        return {"training": {"numb_steps": steps}}

    def inventory_order(self, config: Mapping[str, Json]) -> dict[str, Json]:
        """Return the model section, without what leaves its tensors as they are."""
        return inventory.order(config)

    def plan(
        self, config: Mapping[str, Json], origins: Mapping[str, Origin], start: Start, base: Base, inventory: Inventory
    ) -> TransferPlan | list[Problem]:
        """Say what becomes of every tensor, or why that may not be."""
        return transfer.plan(config, origins, start, base, inventory)

    def artifact_keys(self, config: Mapping[str, Json], dataset_digests: Mapping[str, str]) -> Mapping[str, str]:
        """Return the keys of `statistics` and `neighbours`."""
        return naming.artifact_keys(config, dataset_digests)

    def file_stem(self, job_name: str, config: Mapping[str, Json], seed: int, digest: str) -> str:
        """Return the start of a checkpoint's file name: `water-se_e2_a-s42-9f3c2e`."""
        return naming.file_stem(job_name, config, seed, digest)

    def headline(self) -> Sequence[str]:
        """Return the metric keys worth a column in a list, most important first."""
        return ("train/rmse_f", "train/rmse_e", "val/rmse_f", "val/rmse_e", "train/loss", "lr")

    def metric_keys(self, config: Mapping[str, Json]) -> frozenset[str] | None:
        """Return every metric that a training may measure; None for a loss other than the energy's."""
        return metrics.keys(config)

    def learning_curve(
        self, config: Mapping[str, Json], steps: Sequence[int], columns: Mapping[str, Sequence[float | None]]
    ) -> Iterator[str]:
        """Yield the lines of `lcurve.out`."""
        return lcurve.lines(config, steps, columns)

    def ensemble_commands(self, config: Mapping[str, Json], files: Sequence[str]) -> Sequence[str]:
        """Return `dp model-devi`; what holds several tasks is frozen for one of them first, since it chooses none."""
        return ensemble.commands(config, files)

    def component(self, tensor: str) -> str:
        """Return the part of a model that a tensor belongs to, as its name tells; with tasks `TASK: PART`."""
        if not tensor.startswith("model.") or tensor.count(".") < 2:
            return "other"
        name = Name.parse(tensor)
        return name.component if name.branch == SINGLE else f"{name.branch}: {name.component}"

    def learning_curve_name(self) -> str:
        """Return that file's usual name."""
        return "lcurve.out"


ENGINE = DeepmdEngine()
