"""What holds for every plan: each tensor once, and a type map that is permuted and permuted back changes nothing."""

from math import prod
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.engines.base import Base
from app.engines.deepmd.transfer import plan
from app.wire.submission import Start
from app.wire.transfer import PlannedTensor, TransferPlan
from tests.app.engines.deepmd import tensors

ELEMENTS = ["H", "C", "N", "O", "Si"]
SLOTS = {name: 2 + number for number, name in enumerate(ELEMENTS)}
KINDS: dict[str, dict[str, Any]] = {
    "se_e2_a": {"rcut": 6.0, "neuron": [2, 4], "axis_neuron": 2, "type_one_side": False},
    "se_e2_a, one side": {"rcut": 6.0, "neuron": [2, 4], "axis_neuron": 2, "type_one_side": True},
    "se_e2_r": {"rcut": 6.0, "neuron": [2]},
    "se_e3": {"rcut": 4.0, "neuron": [2]},
    "se_atten": {"rcut": 6.0, "sel": 9, "neuron": [2], "axis_neuron": 2, "attn": 4, "attn_layer": 1, "tebd_dim": 4},
}
type_maps = st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=4, unique=True)
kinds = st.sampled_from(sorted(KINDS))


def _model(kind: str, type_map: list[str]) -> dict[str, Any]:
    descriptor = {"type": kind.split(",")[0], **KINDS[kind]}
    if "sel" not in descriptor:
        descriptor["sel"] = [SLOTS[name] for name in type_map]
    return {"type_map": type_map, "descriptor": descriptor, "fitting_net": {"neuron": [3]}}


def _base(kind: str, type_map: list[str]) -> Base:
    return tensors.base("water@1", {"": _model(kind, type_map)})


def _plan(kind: str, old: list[str], new: list[str]) -> TransferPlan:
    config = {"model": _base(kind, new).facts.branches[0].model}
    start = Start(mode="init", base="water@1")
    found = plan(config, {}, start, _base(kind, old), tensors.inventory(config))
    assert isinstance(found, TransferPlan), found
    return found


@settings(deadline=None, max_examples=60)
@given(kinds, type_maps, type_maps)
def test_every_tensor_is_planned_once(kind: str, old: list[str], new: list[str]) -> None:
    found, base = _plan(kind, old, new), _base(kind, old).facts
    config = {"model": _base(kind, new).facts.branches[0].model}
    targets = [name for item in found.tensors if item.verb != "unused" for name in (item.name, *item.aliases)]
    assert sorted(targets) == sorted(item.name for item in tensors.inventory(config).tensors)
    firsts = {item.name: item.alias_of or item.name for item in base.tensors}
    used = {firsts[item.source] for item in found.tensors if item.source}
    unused = [item.name for item in found.tensors if item.verb == "unused"]
    assert sorted([*used, *unused]) == sorted(set(firsts.values()))
    for item in found.tensors:
        assert 0 <= item.kept <= prod(item.shape)
        for axis in item.maps:
            assert item.source_shape is not None
            assert len(axis.indices) == item.shape[axis.axis]
            assert all(-1 <= index < item.source_shape[axis.axis] for index in axis.indices)


@settings(deadline=None, max_examples=60)
@given(kinds, type_maps, st.randoms(use_true_random=False))
def test_there_and_back_is_the_identity(kind: str, old: list[str], random: Any) -> None:
    new = random.sample(old, len(old))
    there = {item.name: item for item in _plan(kind, old, new).tensors}
    back = _plan(kind, new, old).tensors
    assert {item.verb for item in [*there.values(), *back]} <= {"copied", "remapped"}
    for item in back:
        assert item.source is not None
        middle = there[item.source]
        assert middle.source == item.name
        for axis, length in enumerate(item.shape):
            second, first = _indices(item, axis, length), _indices(middle, axis, length)
            assert [first[index] for index in second] == list(range(length))


def _indices(item: PlannedTensor, axis: int, length: int) -> list[int]:
    found = [entry.indices for entry in item.maps if entry.axis == axis]
    return found[0] if found else list(range(length))
