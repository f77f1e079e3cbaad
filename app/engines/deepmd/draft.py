"""The draft of a DeePMD input: where its tasks' sections are."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.engines import draft
from app.engines.draft import Path as Path
from app.engines.draft import counted as counted
from app.engines.draft import place as place

NESTED = ("repinit", "repformer", "repflow")
"""Sections inside a descriptor that hold its own kind of keys."""


@dataclass
class Draft(draft.Draft):
    """The working state of one resolution. `config` is written out for all tasks and complete with defaults."""

    multi_task: bool = False
    base_types: frozenset[str] | None = None
    """Elements that the base knows; None without a base."""

    def tasks(self) -> list[str]:
        """Return the names of the tasks; one empty name for a single-task training."""
        return list(self.get("model", "model_dict") or {}) if self.multi_task else [""]

    def model(self, task: str) -> Path:
        """Return the path of a task's model section."""
        return ("model", "model_dict", task) if task else ("model",)

    def data_section(self, task: str) -> Path:
        """Return the path of the section with a task's `training_data`."""
        return ("training", "data_dict", task) if task else ("training",)

    def loss(self, task: str) -> Path:
        """Return the path of a task's loss section."""
        return ("loss_dict", task) if task else ("loss",)

    def descriptors(self, task: str) -> list[Path]:
        """Return the paths of a task's descriptors: one, or the members of a hybrid."""
        path = (*self.model(task), "descriptor")
        members = self.get(*path, "list")
        if self.get(*path, "type") == "hybrid" and isinstance(members, list):
            return [(*path, "list", index) for index in range(len(members))]
        return [path]

    def sections(self) -> Iterator[tuple[str, Path]]:
        """Yield (kind, path) of every section there is, all tasks included."""
        for kind in ("learning_rate", "optimizer", "training", "validating"):
            yield kind, (kind,)
        for task in self.tasks():
            yield "model", self.model(task)
            yield "loss", self.loss(task)
            yield "fitting_net", (*self.model(task), "fitting_net")
            yield "data_section", self.data_section(task)
            for path in self.descriptors(task):
                yield "descriptor", path
                for name in NESTED:
                    if self.get(*path, name):
                        yield "descriptor", (*path, name)
            for name in ("training_data", "validation_data"):
                if self.get(*self.data_section(task), name):
                    yield "data", (*self.data_section(task), name)
