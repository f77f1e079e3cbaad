"""Where a tensor's numbers stand in a base whose types come in another order, or are others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from app.engines.deepmd.base_layer import ONE_SEL_PER_TYPE
from app.engines.deepmd.transfer.names import OUTPUT_BIAS, Name, descriptor_of, is_mixed
from app.wire.transfer import AxisMap

Json = Any
Model = Mapping[str, Json]

NEW = -1
"""Index of what the base does not have."""

UNKNOWN = -1
"""Length of an axis that depends on data nobody has looked at yet."""


@dataclass(frozen=True)
class Types:
    """The types of a new model among those of a base."""

    new: tuple[str, ...]
    base: tuple[str, ...]

    @cached_property
    def indices(self) -> list[int]:
        """By new type: its number in the base, or NEW."""
        return [self.base.index(name) if name in self.base else NEW for name in self.new]

    @property
    def are_same(self) -> bool:
        """Return whether both have the same types in the same order."""
        return self.new == self.base

    @property
    def added(self) -> list[str]:
        """Types that the base lacks."""
        return [name for name in self.new if name not in self.base]

    @property
    def left_out(self) -> list[str]:
        """Types that only the base has."""
        return [name for name in self.base if name not in self.new]

    def backwards(self) -> "Types":
        """Return the same the other way round."""
        return Types(self.base, self.new)


def network_axes(name: Name, model: Model) -> int:
    """Return on how many types a network of this tensor's collection depends: 0 when all types share it."""
    if name.section == "/fitting_net":
        return 0 if is_mixed(model["descriptor"]) else 1
    descriptor = descriptor_of(name, model)
    if descriptor.get("type") == "se_e2_a":
        return 1 if descriptor.get("type_one_side") else 2
    return {"se_e2_r": 1, "se_e3": 2}.get(str(descriptor.get("type")), 0)


def network_types(name: Name, model: Model, types: Sequence[str]) -> tuple[str, ...]:
    """Return the types that a tensor's network belongs to: (neighbour), (type), or (centre, neighbour)."""
    number, axes = name.network, network_axes(name, model)
    if number is None:
        return ()
    places = [number // len(types) ** axis % len(types) for axis in range(axes)]
    return tuple(types[place] for place in places)


def source_name(name: Name, model: Model, types: Types) -> Name | None:
    """Return the name under which the base has a tensor of the new model (its branch aside); None: of a new type.

    DeePMD-kit numbers the networks of a collection with the first type changing fastest (`NetworkCollection`). se_e3
    uses of each pair of types only the network whose first type has the lower number.
    """
    if name.network is None or types.are_same:
        return name
    places = [types.new.index(kind) for kind in network_types(name, model, types.new)]
    moved = [types.indices[place] for place in places]
    if NEW in moved:
        return None
    if descriptor_of(name, model).get("type") == "se_e3" and name.section != "/fitting_net":
        moved = sorted(moved, reverse=places[0] > places[1])
    return name.with_network(sum(place * len(types.base) ** axis for axis, place in enumerate(moved)))


def type_axis(name: Name, model: Model) -> int | None:
    """Return the axis along which a tensor has one entry per type."""
    if name.leaf in OUTPUT_BIAS:
        return 1
    if name.leaf == "bias_atom_e" or name.component == "statistics":
        return 0
    return 0 if adds_input(name, model) else None


def adds_input(name: Name, model: Model) -> bool:
    """Return whether a tensor is the matrix that one-hot types enter; its layer may add its input to its output.

    With `use_econf_tebd` electron configurations enter instead, and no row belongs to a type.
    """
    is_matrix = name.component == "type_embedding" and name.leaf == "matrix" and name.layer == 0
    return is_matrix and not descriptor_of(name, model).get("use_econf_tebd")


@dataclass(frozen=True)
class Side:
    """A tensor as one model has it."""

    name: Name
    model: Model
    shape: Sequence[int]


def axis_maps(new: Side, base: Side, types: Types) -> list[AxisMap] | None:
    """Return the axes along which a tensor differs from its source, none when it is the same; None: the shapes differ."""
    found: dict[int, list[int]] = {}
    axis = type_axis(new.name, new.model)
    if axis is not None:
        found[axis] = types.indices
    if new.name.component == "statistics":
        slots = _slots(new, base, types)
        if slots is None:
            return None
        found[1] = slots
    if not _others_agree(new.shape, base.shape, found):
        return None
    return [
        AxisMap(axis=axis, indices=indices)
        for axis, indices in sorted(found.items())
        if new.shape[axis] == UNKNOWN or indices != list(range(base.shape[axis]))
    ]


def kept(shape: Sequence[int], maps: Sequence[AxisMap]) -> int:
    """Return how many numbers of a tensor come from the base; 0 when that is not known yet."""
    if UNKNOWN in shape:
        return 0
    lengths = list(shape)
    for item in maps:
        lengths[item.axis] = sum(index != NEW for index in item.indices)
    return prod(lengths)


def _others_agree(new: Sequence[int], base: Sequence[int], mapped: Mapping[int, list[int]]) -> bool:
    if len(new) != len(base):
        return False
    pairs = enumerate(zip(new, base, strict=True))
    return all(one == other or axis in mapped for axis, (one, other) in pairs) and all(
        len(indices) == new[axis] or new[axis] == UNKNOWN for axis, indices in mapped.items()
    )


def _slots(new: Side, base: Side, types: Types) -> list[int] | None:
    """Return the neighbour slot of the base for each of the new model; per block where their number is not known.

    Slots of one neighbour type, or of all where types are mixed, stand together and have equal statistics.
    """
    ours, theirs = _blocks(new), _blocks(base)
    if theirs is None:
        return None
    starts = [sum(theirs[:number]) for number in range(len(theirs))]
    sources = types.indices if _is_typed(base) else [0]
    if new.shape[1] == UNKNOWN:
        return [starts[source] if source != NEW and theirs[source] else NEW for source in sources]
    if ours is None or len(ours) != len(sources):
        return None
    return [
        starts[source] + min(slot, theirs[source] - 1) if source != NEW and theirs[source] else NEW
        for length, source in zip(ours, sources, strict=True)
        for slot in range(length)
    ]


def _is_typed(side: Side) -> bool:
    return descriptor_of(side.name, side.model).get("type") in ONE_SEL_PER_TYPE


def _blocks(side: Side) -> list[int] | None:
    """Return how many slots stand together; None when that is not known, or not as the model section says."""
    if side.shape[1] == UNKNOWN:
        return None
    if not _is_typed(side):
        return [side.shape[1]]
    sel = descriptor_of(side.name, side.model).get("sel")
    is_right = isinstance(sel, list) and all(isinstance(n, int) for n in sel) and sum(sel) == side.shape[1]
    return list(sel) if is_right and sel is not None else None
