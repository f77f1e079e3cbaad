"""Carrying a plan out on plain tensors."""

import pytest
import torch

from app.wire.transfer import AxisMap, PlannedTensor, TransferPlan
from worker.failures import TrainingFailure
from worker.transfer import carry_out


def _planned(name, verb="copied", **fields):
    given = {"component": "descriptor", "shape": [2, 3], "dtype": "float64", "source_shape": [2, 3]}
    if verb in ("copied", "remapped", "sliced", "padded") and "source" not in fields:
        fields["source"] = name
    return PlannedTensor(name=name, verb=verb, **{**given, **fields})


def _plan(*tensors):
    return TransferPlan(
        base="water@3",
        sha256="5" * 64,
        mode="init",
        tensors=list(tensors),
        components=[],
        parameters=0,
        kept=0,
        counts={},
    )


def _numbers(rows=2, columns=3, first=0.0):
    return (torch.arange(rows * columns, dtype=torch.float64) + first).reshape(rows, columns)


OWN, BASE = _numbers(first=100.0), _numbers()


def _one(planned, own=OWN, base=BASE):
    return carry_out(_plan(planned), {"a": own}, {planned.source or "b": base}, {})["a"]


def test_copied_is_the_same_in_memory_of_its_own():
    made = _one(_planned("a"))
    assert torch.equal(made, BASE)
    assert made.data_ptr() != BASE.data_ptr()


def test_copied_takes_the_new_models_precision():
    assert _one(_planned("a", dtype="float32"), own=OWN.float()).dtype == torch.float32


def test_remapped_moves_along_each_axis():
    maps = [AxisMap(axis=0, indices=[1, 0]), AxisMap(axis=1, indices=[2, 2, 0])]
    assert _one(_planned("a", "remapped", maps=maps)).tolist() == [[5, 5, 3], [2, 2, 0]]


def test_padded_has_the_bases_rows_then_the_new_models_own():
    made = _one(_planned("a", "padded", shape=[3, 3]), own=_numbers(rows=3, first=100.0))
    assert made.tolist() == [[0, 1, 2], [3, 4, 5], [106, 107, 108]]


def test_sliced_has_the_bases_first_rows():
    assert _one(_planned("a", "sliced", shape=[1, 3]), own=OWN[:1]).tolist() == [[0, 1, 2]]


def test_new_entries_are_the_new_models_own():
    maps = [AxisMap(axis=0, indices=[-1, 0]), AxisMap(axis=1, indices=[0, -1, 1])]
    assert _one(_planned("a", "remapped", maps=maps)).tolist() == [[100, 101, 102], [0, 104, 1]]


def test_a_refitted_bias_begins_at_nothing_where_it_is_new():
    maps = [AxisMap(axis=0, indices=[-1, 1])]
    assert _one(_planned("a", "refit", source="a", maps=maps)).tolist() == [[0, 0, 0], [3, 4, 5]]


def test_reinitialised_stays_as_it_is():
    plan = _plan(_planned("a", "reinitialised"), _planned("b", "unused"))
    assert torch.equal(carry_out(plan, {"a": OWN}, {"b": BASE}, {})["a"], OWN)


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (2, 4), (3, 2), (4, 4)])
def test_what_a_layer_adds_of_its_input_moves_with_the_rows(rows, columns):
    """Row by row, matrix plus identity is what a type's embedding is."""
    source, own = _numbers(3, columns), _numbers(rows, columns, first=50.0)
    indices = [2, 0, 1, -1][:rows]
    planned = _planned(
        "a", "remapped", shape=[rows, columns], source_shape=[3, columns], adds_input=True,
        maps=[AxisMap(axis=0, indices=indices)],
    )  # fmt: skip
    made = _one(planned, own=own, base=source)
    for row, index in enumerate(indices):
        if index < 0:
            assert torch.equal(made[row], own[row])
        else:
            assert torch.equal(_embedding(made)[row], _embedding(source)[index])


def _embedding(matrix):
    """A layer's output for each one-hot input: with what it adds where widths allow."""
    rows, columns = matrix.shape
    eye = torch.eye(rows, dtype=matrix.dtype)
    if columns == rows:
        return matrix + eye
    return matrix + torch.cat([eye, eye], dim=1) if columns == 2 * rows else matrix


def test_all_names_of_one_memory_get_it():
    made = carry_out(_plan(_planned("a", aliases=["b"])), {"a": OWN, "b": OWN}, {"a": BASE, "c": BASE}, {"c": "a"})
    assert made["a"] is made["b"]


BAD = {
    "the new model's tensor b is not planned": ([_planned("a")], {"a": OWN, "b": OWN}, {"a": BASE}),
    "the new model has no tensor b": ([_planned("a"), _planned("b")], {"a": OWN}, {"a": BASE, "b": BASE}),
    "a is planned twice": ([_planned("a"), _planned("a")], {"a": OWN}, {"a": BASE}),
    "a has shape [2, 2], planned is [2, 3]": ([_planned("a")], {"a": OWN[:, :2]}, {"a": BASE}),
    "a of the base has shape [1, 3], not [2, 3]": ([_planned("a")], {"a": OWN}, {"a": BASE[:1]}),
    "the base has no tensor x": ([_planned("a", source="x")], {"a": OWN}, {"a": BASE}),
    "a is to be copied, but from nowhere": ([_planned("a", source=None)], {"a": OWN}, {"a": BASE}),
    "the base's tensor b is not planned": ([_planned("a")], {"a": OWN}, {"a": BASE, "b": BASE}),
}


@pytest.mark.parametrize("message", BAD)
def test_a_plan_that_does_not_fit_is_refused(message):
    tensors, own, base = BAD[message]
    with pytest.raises(TrainingFailure, match="The transfer plan does not fit") as caught:
        carry_out(_plan(*tensors), own, base, {})
    assert message in str(caught.value)
    assert caught.value.cause.failure == "library"
