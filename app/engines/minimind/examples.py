"""Configs to start from, written for a dataset that is there."""

import json
from collections.abc import Iterable, Mapping, Sequence

from app.wire.datasets import DatasetView, TextFile


def filled(datasets: Sequence[DatasetView]) -> Mapping[str, str]:
    """Return a small pretraining and an SFT, with the newest dataset that fits each; else a name still to be sent."""
    return {
        "": json.dumps(_pretraining(_newest(datasets, "text") or "dataset:corpus"), indent=2),
        "fine-tuning": json.dumps(_tuning(_newest(datasets, "conversations") or "dataset:conversations"), indent=2),
    }


def _newest(datasets: Iterable[DatasetView], form: str) -> str | None:
    """Return a reference to the newest data of a form: a whole dataset, or its one file that is."""
    for dataset in datasets:
        files: list[TextFile] = dataset.summary.text.files if dataset.summary.text else []
        fitting = [file.name for file in files if file.form == form]
        if fitting:
            return dataset.ref if len(fitting) == len(files) else f"{dataset.ref}/{fitting[0]}"
    return None


def _pretraining(data: str) -> dict[str, object]:
    return {
        "stage": "pretrain",
        "model": {"hidden_size": 256, "num_hidden_layers": 4, "vocab_size": 2000},
        "data": {"train": [data], "validation_fraction": 0.05},
        "training": {"max_steps": 2000, "batch_size": 16, "max_seq_len": 256, "eval_interval": 200},
    }


def _tuning(data: str) -> dict[str, object]:
    return {
        "stage": "sft",
        "data": {"train": [data], "validation_fraction": 0.05},
        "training": {"epochs": 2, "learning_rate": 1e-5},
    }
