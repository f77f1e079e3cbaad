"""Configs to start from, whole ones and minimal ones with a base, written for a dataset that is there."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from app.engines.base import Engine
from app.web.formats import literal
from app.wire.datasets import DatasetView

EXAMPLES = Path(__file__).parent / "examples"
KINDS = {"": "", ".finetune": ", fine-tuning"}
"""What an engine may have examples of: by the end of the file's name, that of its title."""


def examples(engines: Iterable[Engine], datasets: Sequence[DatasetView]) -> dict[str, str]:
    """Return the text of an example by its name, for every engine that has one."""
    found = {}
    for engine in engines:
        dataset = next((one for one in datasets if one.engine == engine.name), None)
        for kind, words in KINDS.items():
            path = EXAMPLES / f"{engine.name}{kind}.json"
            if path.exists():
                found[f"{engine.title}{words}"] = _fill(path.read_text(), dataset)
    return found


def _fill(text: str, dataset: DatasetView | None) -> str:
    """Put the newest dataset into an example; without one, a name that the check will ask to upload."""
    reference = dataset.ref if dataset else "dataset:water"
    type_map = dataset.summary.type_map if dataset else ["O", "H"]
    return text.replace("@dataset@", literal(reference)).replace("@type_map@", literal(type_map))
