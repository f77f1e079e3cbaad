"""What a job will take, as far as its config and the list of its model's tensors tell."""

import math
from collections.abc import Iterable, Mapping, Sequence

from app.engines.base import DatasetFacts, Engine
from app.jobs import tasks
from app.wire.models import Inventory, TensorFacts
from app.wire.resolution import CostHints, Resolution

ADAM_COPIES = 2
"""Numbers that the optimizer keeps for every trainable one: Adam's two moments."""


def hints(
    engine: Engine,
    kind: str,
    resolution: Resolution,
    datasets: Iterable[DatasetFacts],
    inventory: Inventory | None,
) -> CostHints:
    """Return what a job takes; parameters and sizes only when its tensors are known."""
    own = [tensor for tensor in inventory.tensors if tensor.alias_of is None] if inventory else []
    trained = [tensor for tensor in own if tensor.is_parameter]
    used = {f"{one.name}@{one.version}": one for one in datasets}
    return CostHints(
        steps=resolution.total_steps,
        frames=_frames(engine, kind, resolution, used),
        entries=_entries(engine, kind, resolution, used),
        parameters=sum(math.prod(tensor.shape) for tensor in trained) if _is_known(trained) else None,
        checkpoint_bytes=_bytes(own) + ADAM_COPIES * _bytes(trained) if _is_known(own) else None,
    )


def _is_known(tensors: Sequence[TensorFacts]) -> bool:
    """Return whether these are all there, and none has a size that only the data will tell (-1: `sel: auto`)."""
    return bool(tensors) and all(size >= 0 for tensor in tensors for size in tensor.shape)


def _frames(engine: Engine, kind: str, resolution: Resolution, datasets: Mapping[str, DatasetFacts]) -> int:
    """Count the frames that are worked on; a system that two tasks share counts for both."""
    total = 0
    for use in tasks.data_uses(engine, kind, resolution.config):
        if use.ref is not None and not use.validates:
            systems = datasets[f"{use.ref.name}@{use.ref.version}"].systems
            total += sum(one.frames for one in systems if use.ref.system in (None, one.name))
    return total


def _entries(engine: Engine, kind: str, resolution: Resolution, datasets: Mapping[str, DatasetFacts]) -> int:
    """Count the documents or conversations that are learned from."""
    total = 0
    for use in tasks.data_uses(engine, kind, resolution.config):
        text = datasets[f"{use.ref.name}@{use.ref.version}"].text if use.ref and not use.validates else None
        total += sum(
            file.entries for file in (text.files if text else ()) if use.ref and use.ref.system in (None, file.name)
        )
    return total


def _bytes(tensors: Iterable[TensorFacts]) -> int:
    return sum(math.prod(tensor.shape) * _ITEM_BYTES.get(tensor.dtype, 8) for tensor in tensors)


_ITEM_BYTES = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2, "bool": 1, "uint8": 1}
