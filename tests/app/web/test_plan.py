"""Transfer plans by component and fate, and the tensors of a base model."""

from app.engines.deepmd.engine import ENGINE
from app.web import plan, tensors
from app.wire.transfer import PlannedTensor
from tests.app.web import seeding_models


def test_a_plan_goes_by_component_and_then_by_fate() -> None:
    parts = plan.parts(seeding_models.plan())
    assert [(part.name, part.parameters, part.kept) for part in parts] == [
        ("descriptor", 6274, 6266),
        ("fitting_net", 25_440, 13_125),
        ("output bias", 0, 0),
    ]
    assert [[(group.verb, len(group.tensors), group.numbers) for group in part.groups] for part in parts] == [
        [("copied", 2, 6250), ("remapped", 1, 24)],
        [("copied", 1, 13_440), ("reinitialised", 1, 12_000), ("unused", 1, 100)],
        [("refit", 1, 3)],
    ]


def test_a_reason_that_tensors_share_is_said_once() -> None:
    one = PlannedTensor(
        name="a", verb="reinitialised", component="c", shape=[2], dtype="float64", reason="why", key="/model/x"
    )
    (same,) = plan.groups([one, one])
    assert (same.reason, same.key, same.reasons_differ) == ("why", "/model/x", False)
    (different,) = plan.groups([one, one.model_copy(update={"key": "/model/y"})])
    assert (different.reason, different.key, different.reasons_differ) == ("why", None, True)


def test_names_are_told_from_where_they_part() -> None:
    one = PlannedTensor(
        name="m.d.net.0.w", verb="remapped", component="c", shape=[2], dtype="float64", source="m.d.net.3.w"
    )
    (group,) = plan.groups([one, one.model_copy(update={"name": "m.d.net.1.w", "source": None})])
    assert group.stem == "m.d.net"
    assert [group.below(name) for name in ("m.d.net.0.w", "m.d.net.3.w")] == ["0.w", "3.w"]
    (alone,) = plan.groups([one.model_copy(update={"name": "w", "source": None})])
    assert (alone.stem, alone.below("w")) == ("", "w")


def test_tasks_and_shapes_that_are_not_known_yet_are_kept_apart() -> None:
    one = PlannedTensor(name="a", verb="copied", component="c", branch="B", shape=[2, -1], dtype="float64")
    groups = plan.groups([one, one.model_copy(update={"branch": "A", "shape": [3]})])
    assert [(group.branch, group.numbers) for group in groups] == [("A", 3), ("B", None)]


def test_other_names_of_a_tensor_are_folded_in_and_numbers_counted_once() -> None:
    found = seeding_models.facts(["O", "H"])
    lines = tensors.rows(found.tensors, ENGINE.component)
    assert len(lines) == 13
    assert len(found.tensors) == 25
    assert [line.aliases for line in lines if line.component == "output bias"] == [[]]
    assert all(len(line.aliases) == 1 for line in lines if line.component != "output bias")
    counts = tensors.components(lines)
    assert [(count.name, count.tensors, count.parameters) for count in counts] == [
        ("descriptor", 6, 6450),
        ("fitting_net", 6, 15_951 + 50),
        ("output bias", 1, 0),
    ]


def test_components_are_named_as_people_call_them() -> None:
    names = {
        "model.Default.atomic_model.descriptor.repflows.layers.0.matrix": "descriptor",
        "model.Default.atomic_model.descriptor.mean": "statistics",
        "model.Default.atomic_model.out_bias": "output bias",
        "model.H2O.atomic_model.fitting_net.filter_layers.networks.0.layers.0.bias": "H2O: fitting_net",
        "model.H2O.min_nbor_dist": "H2O: other",
        "something.else": "other",
    }
    assert {name: ENGINE.component(name) for name in names} == names
