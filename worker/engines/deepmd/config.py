"""From a RunSpec to the document that DeePMD-kit's own code expects."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepmd.pt.utils.multi_task import preprocess_shared_params
from deepmd.utils.argcheck import normalize
from deepmd.utils.compat import update_deepmd_input

from app.wire.datasets import DatasetRef
from worker.failures import TrainingFailure
from worker.rundir import RunSpec

SINGLE_TASK = "Default"
"""DeePMD's own name for the task of a single-task training."""


@dataclass
class DeepmdConfig:
    """A normalised config with real paths, and what multi-task training needs beside it."""

    document: dict[str, Any]
    is_multi_task: bool
    shared_links: dict[str, Any] | None

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in DeePMD's order."""
        return list(self.document["model"]["model_dict"]) if self.is_multi_task else [SINGLE_TASK]

    def model(self, task: str) -> dict[str, Any]:
        """Return the model section of a task."""
        section = self.document["model"]
        found: dict[str, Any] = section["model_dict"][task] if self.is_multi_task else section
        return found

    def set_model(self, task: str, model: dict[str, Any]) -> None:
        """Replace the model section of a task."""
        if self.is_multi_task:
            self.document["model"]["model_dict"][task] = model
        else:
            self.document["model"] = model

    def data(self, task: str) -> dict[str, Any]:
        """Return the section with `training_data` and perhaps `validation_data` of a task."""
        training = self.document["training"]
        found: dict[str, Any] = training["data_dict"][task] if self.is_multi_task else training
        return found


def load(spec: RunSpec, data_root: Path) -> DeepmdConfig:
    """Return the config of `spec`, complete, with every dataset reference replaced by a path below `data_root`."""
    document = deepcopy(spec.config)
    is_multi_task = "model_dict" in document["model"]
    shared_links = None
    if is_multi_task:
        document["model"], shared_links = preprocess_shared_params(document["model"])
    document = normalize(update_deepmd_input(document, warning=False), multi_task=is_multi_task)
    config = DeepmdConfig(document, is_multi_task, shared_links)
    for task in config.tasks:
        _localise(config.data(task), data_root)
    _silence(document["training"])
    return config


def _localise(section: dict[str, Any], data_root: Path) -> None:
    """Replace references by paths, in place, and forget any statistics file that the config names."""
    section["stat_file"] = None
    section["stat_file_mode"] = "update"
    for name in ("training_data", "validation_data"):
        data = section.get(name)
        if data:
            systems = [data["systems"]] if isinstance(data["systems"], str) else data["systems"]
            data["systems"] = [path for text in systems for path in system_paths(text, data_root)]
            data["rglob_patterns"] = None


def system_paths(text: str, data_root: Path) -> list[str]:
    """Return the directories of one reference: a system, or every system of a dataset in the order of their names."""
    ref = DatasetRef.parse(text)
    if ref is None or ref.version is None:
        message = f"{text!r} is not a resolved dataset reference."
        raise TrainingFailure("data", message, hint="Name data as dataset:NAME@VERSION/SYSTEM.")
    base = data_root / f"{ref.name}@{ref.version}"
    if ref.system is not None:
        base = base / ref.system
    if (base / "type.raw").is_file():
        return [str(base)]
    found = sorted(path.parent for path in base.rglob("type.raw"))
    if not found:
        raise TrainingFailure("data", f"{text} is not on this worker: no DeePMD system under {base.name}.")
    return [str(path) for path in found]


def _silence(training: dict[str, Any]) -> None:
    """Turn off what DeePMD's trainer would write on its own."""
    training.update(tensorboard=False, enable_profiler=False, profiling=False, zero_stage=0)


def dataset_names(section: Mapping[str, Any], data_root: Path) -> list[str]:
    """Return how people name the systems of a data section: `NAME@VERSION/SYSTEM`."""
    return [str(Path(path).relative_to(data_root)) for path in section["systems"]]
