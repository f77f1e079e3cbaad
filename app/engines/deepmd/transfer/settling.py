"""What a plan left open until the trainer had looked at the data: lengths that depend on `sel: "auto"`."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.engines.deepmd.transfer.maps import UNKNOWN, kept
from app.engines.deepmd.transfer.names import Name, descriptor_of
from app.wire.transfer import AxisMap, PlannedTensor, TransferPlan

Json = Any


def settle(
    plan: TransferPlan, models: Mapping[str, Mapping[str, Json]], shapes: Mapping[str, Sequence[int]]
) -> TransferPlan:
    """Return a plan without open lengths.

    `models` are the model sections by branch as names of tensors have it, every `sel` a number; `shapes` are those of
    the new model's tensors by name.
    """
    tensors = [
        _settled(tensor, models, list(shapes[tensor.name]))
        if UNKNOWN in tensor.shape and tensor.name in shapes
        else tensor
        for tensor in plan.tensors
    ]
    return plan.model_copy(update={"tensors": tensors})


def _settled(tensor: PlannedTensor, models: Mapping[str, Mapping[str, Json]], shape: list[int]) -> PlannedTensor:
    is_same_elsewhere = len(shape) == len(tensor.shape) and all(
        length in (UNKNOWN, actual) for length, actual in zip(tensor.shape, shape, strict=True)
    )
    if not is_same_elsewhere:
        return tensor
    name = Name.parse(tensor.name)
    sel = descriptor_of(name, models[name.branch]).get("sel")
    maps = [
        _repeated(item, sel, shape[item.axis]) if tensor.shape[item.axis] == UNKNOWN else item for item in tensor.maps
    ]
    return tensor.model_copy(update={"shape": shape, "maps": maps, "kept": kept(shape, maps) if tensor.source else 0})


def _repeated(item: AxisMap, sel: Json, length: int) -> AxisMap:
    counts = [length] if len(item.indices) == 1 else sel
    assert sum(counts) == length, f"{counts} neighbour slots are not {length}"
    pairs = zip(item.indices, counts, strict=True)
    return AxisMap(axis=item.axis, indices=[index for index, count in pairs for _ in range(count)])
