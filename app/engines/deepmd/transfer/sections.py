"""The model sections of a config, each task's whole."""

from collections.abc import Mapping
from typing import Any

from app.engines.deepmd.tasks import SHAREABLE, is_multi_task
from app.engines.documents import pointer
from app.engines.transfer.sections import Section

Json = Any


def sections(config: Mapping[str, Json]) -> dict[str, Section]:
    """Return the model section of every task of a resolved config, by task."""
    model = config["model"]
    if not is_multi_task(config):
        return {"": Section("", dict(model))}
    shared = model.get("shared_dict", {})
    return {task: _written_out(task, branch, shared) for task, branch in model["model_dict"].items()}


def _written_out(task: str, branch: Mapping[str, Json], shared: Mapping[str, Json]) -> Section:
    section = Section(task, dict(branch), {"": pointer("model", "model_dict", task)})
    for key in SHAREABLE:
        if key in section.model:
            section.model[key] = _part(section.model[key], pointer(key), shared, section.places)
    return section


def _part(value: Json, at: str, shared: Mapping[str, Json], places: dict[str, str]) -> Json:
    """Return a part of a model, or what it names in `shared_dict`."""
    if isinstance(value, str):
        name = value.partition(":")[0]
        places[at] = pointer("model", "shared_dict", name)
        value = shared[name]
    if isinstance(value, Mapping) and value.get("type") == "hybrid":
        members = enumerate(value["list"])
        return {**value, "list": [_part(member, at + pointer("list", i), shared, places) for i, member in members]}
    return value
