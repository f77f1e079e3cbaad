"""Configs to start from, one per engine, written for a dataset that is there."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from app.engines.base import Engine
from app.web.formats import literal
from app.wire.datasets import DatasetView

EXAMPLES = Path(__file__).parent / "examples"


def examples(engines: Iterable[Engine], datasets: Sequence[DatasetView]) -> dict[str, str]:
    """Return the text of an example by its name, for every engine that has one."""
    found = {}
    for engine in engines:
        path = EXAMPLES / f"{engine.name}.json"
        if path.exists():
            dataset = next((one for one in datasets if one.engine == engine.name), None)
            found[engine.title] = _fill(path.read_text(), dataset)
    return found


def _fill(text: str, dataset: DatasetView | None) -> str:
    """Put the newest dataset into an example; without one, a name that the check will ask to upload."""
    reference = dataset.ref if dataset else "dataset:water"
    type_map = dataset.summary.type_map if dataset else ["O", "H"]
    return text.replace("@dataset@", literal(reference)).replace("@type_map@", literal(type_map))
