"""What a model section becomes in another type map, and which branch a task starts from."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engines.deepmd.base_layer import branch_of, translated
from app.wire.submission import Start
from tests.app.engines.deepmd.support import model

WATER = model("water@3").facts.branches[0].model


def test_a_model_in_its_own_type_map_is_unchanged() -> None:
    assert translated(WATER, ["O", "H"]) == WATER


@given(st.permutations(["O", "H", "Cu"]))
def test_a_translation_and_back_is_the_same_model(order: list[str]) -> None:
    section = {
        "type_map": ["O", "H", "Cu"],
        "descriptor": {"type": "hybrid", "list": [{"type": "se_e2_a", "sel": [1, 2, 3], "exclude_types": [[0, 2]]}]},
        "fitting_net": {"atom_ener": [-1.0, None, -3.0]},
        "pair_exclude_types": [[0, 1], [2, 2]],
        "atom_exclude_types": [0, 2],
        "preset_out_bias": {"energy": [None, 1.0, 2.0]},
    }
    there = translated(section, order)
    assert there["descriptor"]["list"][0]["sel"] == [["O", "H", "Cu"].index(name) + 1 for name in order]
    assert translated(there, ["O", "H", "Cu"]) == section


def test_types_that_fall_away_and_types_that_are_new() -> None:
    section = translated(WATER, ["H", "C"])
    assert "sel" not in section["descriptor"]
    assert section["descriptor"]["exclude_types"] == []
    assert section["pair_exclude_types"] == []
    assert section["atom_exclude_types"] == [0]
    assert section["fitting_net"]["atom_ener"] == [-187.0, None]
    assert section["preset_out_bias"] == {"energy": [-1.0, None]}


def test_a_reduced_type_map_keeps_the_numbers_of_neighbours_that_are_left() -> None:
    assert translated(WATER, ["H"])["descriptor"]["sel"] == [92]


def test_a_list_that_is_not_one_per_type_is_left_as_it_is() -> None:
    odd = {
        "type_map": ["O", "H"],
        "descriptor": {"type": "se_atten", "sel": [60, 60]},
        "fitting_net": {"atom_ener": []},
    }
    assert translated(odd, ["H", "O"]) == odd | {"type_map": ["H", "O"]}


def test_the_translated_section_is_another_object() -> None:
    section = translated(WATER, ["H", "O"])
    section["descriptor"]["rcut"] = 1.0
    assert WATER["descriptor"]["rcut"] == 6.5


@pytest.mark.parametrize(
    ("base", "branch", "task", "found"),
    [
        ("water@3", None, "", ""),
        ("water@3", "Default", "", ""),
        ("water@3", {"liquid": "Default"}, "liquid", ""),
        ("water@3", None, "liquid", None),
        ("pretrained@2", None, "", None),
        ("pretrained@2", "Metals", "", "Metals"),
        ("pretrained@2", "water", "", "H2O"),
        ("pretrained@2", None, "Metals", "Metals"),
        ("pretrained@2", {"metal": "Metals"}, "metal", "Metals"),
        ("pretrained@2", {"metal": "Metals"}, "H2O", "H2O"),
        ("pretrained@2", {"metal": "none"}, "metal", None),
    ],
)
def test_the_branch_of_a_task(base: str, branch: Any, task: str, found: str | None) -> None:
    answer = branch_of(model(base).facts, Start(mode="init", base=base, branch=branch), task)
    assert (answer.name if answer else None) == found
