"""The model sections of a config, each task's whole, with the way back to where a value stands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from app.engines.deepmd.tasks import SHAREABLE, is_multi_task
from app.engines.documents import dotted, leaves, pointer
from app.wire.jobs import Origin

Json = Any


@dataclass(frozen=True)
class Section:
    """The model section of one task, complete; shared parts are written out."""

    task: str
    """Empty for a single-task training."""
    model: dict[str, Json]
    places: dict[str, str] = field(default_factory=dict)
    """Place in the resolved config, by place in this section: of the whole (`""`) and of every shared part."""

    def pointer(self, at: str) -> str:
        """Return where a value of this section stands in the resolved config."""
        home = max((place for place in self.places if at == place or at.startswith(f"{place}/")), key=len)
        return self.places[home] + at[len(home) :]

    def name(self, at: str) -> str:
        """Return a value's place as people write it: `model.descriptor.rcut`."""
        return dotted(self.pointer(at))

    def spellings(self, at: str) -> set[str]:
        """Return every way in which `start.allow` may name a value: as it stands, per task, and for all tasks."""
        per_task = pointer("model", "model_dict", self.task) if self.task else "/model"
        return {dotted(self.pointer(at)), dotted(per_task + at), dotted("/model" + at)}

    @cached_property
    def values(self) -> dict[str, Json]:
        """Every value by its place in this section."""
        return dict(leaves(self.model))


def sections(config: Mapping[str, Json]) -> dict[str, Section]:
    """Return the model section of every task of a resolved config, by task."""
    model = config["model"]
    if not is_multi_task(config):
        return {"": Section("", dict(model), {"": "/model"})}
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


def submitted(origins: Mapping[str, Origin], at: str) -> str | None:
    """Return where in the submission the value at `at` of the resolved config was written, or None when nowhere."""
    origin = origins.get(at)
    if origin is None or origin.origin not in ("explicit", "migrated"):
        return None
    return "/config" + (origin.source if origin.source and origin.source.startswith("/") else at)
