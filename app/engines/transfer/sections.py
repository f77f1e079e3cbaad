"""A model section with the way back to where its values stand in the config, and in what was submitted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from app.engines.documents import dotted, leaves, pointer
from app.wire.resolution import Origin

Json = Any


@dataclass(frozen=True)
class Section:
    """The model section of one task, complete; shared parts are written out."""

    task: str
    """Empty for a single-task training."""
    model: dict[str, Json]
    places: dict[str, str] = field(default_factory=lambda: {"": "/model"})
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


def submitted(origins: Mapping[str, Origin], at: str) -> str | None:
    """Return where in the submission the value at `at` of the resolved config was written, or None when nowhere."""
    origin = origins.get(at)
    if origin is None or origin.origin not in ("explicit", "migrated"):
        return None
    return "/config" + (origin.source if origin.source and origin.source.startswith("/") else at)


def is_allowed(section: Section, at: str, allow: Iterable[str]) -> bool:
    """Return whether `start.allow` names a place, or something above it, in any of its spellings."""
    spellings = [_plain(text) for text in section.spellings(at)]
    allowed = [_plain(text) for text in allow]
    return any(text == entry or text.startswith(f"{entry}.") for text in spellings for entry in allowed)


def _plain(text: str) -> str:
    return text.strip().strip(".").replace("[", ".").replace("]", "")
