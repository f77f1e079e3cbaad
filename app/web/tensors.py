"""The tensors of a base model as a page shows them: other names of the same memory folded in, counted by component."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import takewhile

from app.wire.models import TensorFacts


@dataclass(frozen=True)
class TensorRow:
    """One tensor."""

    tensor: TensorFacts
    component: str
    """The part of the model it belongs to, as its name tells."""
    aliases: Sequence[str]
    """Other names of the same memory."""


@dataclass(frozen=True)
class ComponentCount:
    """What one part of a model holds."""

    name: str
    tensors: int
    parameters: int
    """Trainable numbers; of a file that does not tell buffers from parameters, all numbers."""


def rows(tensors: Sequence[TensorFacts], branches: Collection[str] = ()) -> list[TensorRow]:
    """Return a line per memory, in the file's order. `branches` are the names of a multi-task model's tasks."""
    aliases: dict[str, list[str]] = {}
    for tensor in tensors:
        if tensor.alias_of is not None:
            aliases.setdefault(tensor.alias_of, []).append(tensor.name)
    own = [tensor for tensor in tensors if tensor.alias_of is None]
    component_of = _components([tensor.name for tensor in own], branches)
    return [TensorRow(tensor, component_of[tensor.name], aliases.get(tensor.name, [])) for tensor in own]


def components(lines: Sequence[TensorRow]) -> list[ComponentCount]:
    """Return how much each component holds, in the file's order."""
    found: dict[str, list[TensorFacts]] = {}
    for line in lines:
        found.setdefault(line.component, []).append(line.tensor)
    return [
        ComponentCount(
            name, len(members), sum(math.prod(one.shape) for one in members if one.is_parameter is not False)
        )
        for name, members in found.items()
    ]


def _components(names: Sequence[str], branches: Collection[str]) -> dict[str, str]:
    """Return the component of each name: what follows the beginning that all share; with tasks, all of the same task."""
    first = {name: _after(_stem(names), name) for name in names}
    by_task: dict[str, list[str]] = {}
    for name in names:
        by_task.setdefault(first[name] if first[name] in branches else "", []).append(name)
    return {
        name: f"{task}: {_after(_stem(members), name)}" if task else first[name]
        for task, members in by_task.items()
        for name in members
    }


def _stem(names: Sequence[str]) -> str:
    """Return the dotted beginning that all names share: engines wrap their models in a few layers of names."""
    levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return ".".join(level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels))


def _after(stem: str, name: str) -> str:
    return name.removeprefix(f"{stem}." if stem else "").partition(".")[0]
