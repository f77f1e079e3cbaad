"""Inputs to start from, a whole one and a minimal one with a base, written for a dataset that is there."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.wire.datasets import DatasetView

_FILES = {"": "training.json", "fine-tuning": "fine-tuning.json"}


def filled(datasets: Sequence[DatasetView]) -> Mapping[str, str]:
    """Return each example with the newest dataset in it; without one, with a name that the check will ask to upload."""
    dataset = next(iter(datasets), None)
    reference = dataset.ref if dataset else "dataset:water"
    type_map = dataset.summary.type_map if dataset else ["O", "H"]
    values = {"@dataset@": json.dumps(reference), "@type_map@": json.dumps(type_map, ensure_ascii=False)}
    return {what: _fill((Path(__file__).parent / name).read_text(), values) for what, name in _FILES.items()}


def _fill(text: str, values: Mapping[str, str]) -> str:
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text
