"""The tensors of a base model as a page shows them: other names of the same memory folded in, counted by component."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


def rows(tensors: Sequence[TensorFacts], component: Callable[[str], str]) -> list[TensorRow]:
    """Return a line per memory, in the file's order. `component` tells the part of the model from a tensor's name."""
    aliases: dict[str, list[str]] = {}
    for tensor in tensors:
        if tensor.alias_of is not None:
            aliases.setdefault(tensor.alias_of, []).append(tensor.name)
    own = (tensor for tensor in tensors if tensor.alias_of is None)
    return [TensorRow(tensor, component(tensor.name), aliases.get(tensor.name, [])) for tensor in own]


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
