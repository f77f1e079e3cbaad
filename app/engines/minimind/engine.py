"""The MiniMind engine: what `app.engines.base.Engine` asks for, put together from this package."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.engines.base import Base, DatasetFacts, DataUse, EngineResolution, Task
from app.engines.minimind import data, examples, inventory, metrics, naming, resolution, schema, transfer
from app.engines.minimind.migrate import is_minimind
from app.engines.minimind.model import Place
from app.wire.datasets import DatasetView
from app.wire.metrics import MetricWords
from app.wire.models import Inventory
from app.wire.problems import Problem
from app.wire.resolution import Origin
from app.wire.submission import Start
from app.wire.transfer import TransferPlan

Json = Any


class MinimindEngine:
    """Small language models as MiniMind has them, trained with transformers."""

    name = "minimind"
    title = "MiniMind"
    trainer = "worker.engines.minimind.trainer:MinimindTrainer"
    errands = "worker.engines.minimind.errands"
    intake = "app.engines.minimind.intake:take_in"
    library = "transformers"
    document = "config.json"
    data_words = data.WORDS
    weights_words = (
        "MiniMind's weights (`pretrain_512.pth`, `full_sft_768_moe.pth`), a Hugging Face directory of them as an archive, or "
        "a checkpoint of Cairn"
    )
    has_fitting = False
    exports: Mapping[str, str] = {
        ".pth": "MiniMind's weights, 16 bit: its own scripts load them under a name like `pretrain_512.pth`",
        "-hf.zip": "A directory for Hugging Face's `from_pretrained`, zipped",
    }
    metric_words: Mapping[str, MetricWords] = metrics.WORDS
    tasks: Mapping[str, Task] = {}

    def schema(self) -> dict[str, Json]:
        """Return the JSON schema of a config."""
        return schema.json_schema()

    def recognises(self, config: Mapping[str, Json]) -> bool:
        """Return whether there is a section of MiniMind's own, such as `data`, or a key that only a language model has."""
        return is_minimind(config)

    def examples(self, datasets: Sequence[DatasetView]) -> Mapping[str, str]:
        """Return a small pretraining and an SFT."""
        return examples.filled(datasets)

    def usage(self, dataset: DatasetView) -> str:
        """Return the section of the data, or of the tokenizer."""
        if dataset.summary.tokenizer:
            return f'"tokenizer": {{"source": "{dataset.ref}"}}'
        return f'"data": {{"train": ["{dataset.ref}"]}}'

    def data_uses(self, config: Mapping[str, Json]) -> Iterator[DataUse]:
        """Yield every text of a submitted config that names data, the tokenizer included."""
        return data.data_uses(config)

    def resolve(
        self,
        config: Mapping[str, Json],
        *,
        root_seed: int,
        datasets: Mapping[str, DatasetFacts],
        start: Start,
        base: Base | None,
        ranks: int = 1,
    ) -> EngineResolution:
        """Complete a submitted config, or say everything that is wrong with it.

        Without `max_steps` the number of steps is 0: only the trainer knows into how many rows the documents go.
        """
        return resolution.resolve(config, root_seed=root_seed, datasets=datasets, start=start, base=base)

    def checkpoint_interval(self, config: Mapping[str, Json]) -> int:
        """Return its `save_interval`."""
        return int(config["training"]["save_interval"])

    def longer(self, steps: int) -> dict[str, Json]:
        """Return the number of steps: a resumed training takes all else from its base."""
        return {"training": {"max_steps": steps}}

    def inventory_order(self, config: Mapping[str, Json]) -> dict[str, Json]:
        """Return the sizes of the model."""
        return inventory.order(config)

    def plan(
        self, config: Mapping[str, Json], origins: Mapping[str, Origin], start: Start, base: Base, inventory: Inventory
    ) -> TransferPlan | list[Problem]:
        """Say what becomes of every tensor, or why that may not be."""
        return transfer.plan(config, origins, start, base, inventory)

    def artifact_keys(self, config: Mapping[str, Json], dataset_digests: Mapping[str, str]) -> Mapping[str, str]:
        """Return the keys of `tokenizer`, `tokens` and `validation_tokens`, as far as the training has them."""
        return naming.artifact_keys(config, dataset_digests)

    def file_stem(self, job_name: str, config: Mapping[str, Json], seed: int, digest: str) -> str:
        """Return the start of a checkpoint's file name: `corpus-pretrain_512-s42-9f3c2e`."""
        return naming.file_stem(job_name, config, seed, digest)

    def headline(self) -> Sequence[str]:
        """Return the metric keys worth a column in a list, most important first."""
        return metrics.HEADLINE

    def metric_keys(self, config: Mapping[str, Json]) -> frozenset[str] | None:
        """Return every metric that a training may measure."""
        return metrics.keys(config)

    def learning_curve(
        self, config: Mapping[str, Json], steps: Sequence[int], columns: Mapping[str, Sequence[float | None]]
    ) -> Iterator[str]:
        """Yield the lines of `loss.tsv`."""
        return metrics.lines(steps, columns)

    def ensemble_commands(self, config: Mapping[str, Json], files: Sequence[str]) -> Sequence[str]:
        """Return none: no tool of MiniMind or transformers compares models on data."""
        return ()

    def component(self, tensor: str) -> str:
        """Return the part of a model that a tensor belongs to: `embedding`, `attention 3`, `feed-forward 3`, `head`."""
        return Place.parse(tensor).component

    def learning_curve_name(self) -> str:
        """Return that file's usual name."""
        return metrics.CURVE


ENGINE = MinimindEngine()
