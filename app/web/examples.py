"""Configs to start from, of every engine that has some, written for datasets that are there."""

from collections.abc import Iterable, Sequence

from app.engines.base import Engine
from app.wire.datasets import DatasetView


def examples(engines: Iterable[Engine], datasets: Sequence[DatasetView]) -> dict[str, dict[str, str]]:
    """Return texts by engine and by the title of the example: `DeePMD-kit, fine-tuning`."""
    return {engine.name: dict(_of(engine, datasets)) for engine in engines}


def _of(engine: Engine, datasets: Sequence[DatasetView]) -> Iterable[tuple[str, str]]:
    its_own = [dataset for dataset in datasets if dataset.engine == engine.name]
    for what, text in engine.examples(its_own).items():
        yield ", ".join(filter(None, (engine.title, what))), text
