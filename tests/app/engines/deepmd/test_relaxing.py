"""Relaxing: what is pinned, what is refused with its place, and what is odd about structures."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.engines.base import DatasetFacts, EngineResolution, Model
from app.engines.deepmd import data, physics
from app.engines.deepmd.document import Way
from app.engines.deepmd.draft import Draft
from app.engines.deepmd.intake.structures import summarise
from app.engines.deepmd.relaxing import Relaxing
from app.engines.deepmd.structures import Structure
from tests.app.engines.deepmd.named_models import CU, branch, codes, trained, uploaded

KIND = Relaxing()
CELL = [[3.6, 0, 0], [0, 3.6, 0], [0, 0, 3.6]]
FOUR = [[0, 0, 0], [0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0]]


def structure(**changes: Any) -> Structure:
    given = {"name": "cu", "symbols": ["Cu"] * 4, "positions": FOUR, "cell": CELL, **changes}
    return Structure.model_validate(given)


H2O3 = structure(
    name="h2o3", symbols=list("OHHOO"), cell=None,
    positions=[[0, 0, 0], [0.9, 0.3, 0], [0.9, 0.3, 0.34], [2.5, 0, 0], [0, 3, 0]],
)  # fmt: skip
"""DeePMD-kit's issue 4502: two hydrogens 0.34 Å apart."""


def facts(*structures: Structure) -> DatasetFacts:
    return DatasetFacts("cells", 2, "d" * 64, structures=tuple(summarise(list(structures)).structures))


CELLS = {
    "dataset:cells": facts(structure(), structure(name="hot")),
    "dataset:cells@2/hot": facts(structure(name="hot")),
}
WATER = trained(1, type_map=["O", "H"])


def resolve(*structures: str, model: Model | None = None, **options: Any) -> EngineResolution:
    config = {"models": ["m"], "structures": list(structures), **options}
    return KIND.resolve(config, root_seed=7, datasets=CELLS | {"dataset:cu": CU}, models={"m": [model or trained(1)]})


def test_structures_are_pinned_one_by_one_and_the_starts_seeded() -> None:
    answer = resolve("dataset:cells", starts=3)
    assert answer.problems == []
    assert answer.config["structures"] == ["dataset:cells@2/cu", "dataset:cells@2/hot"]
    assert (
        answer.origins["/structures"].note == "version 2 of cells is the newest; dataset:cells stands for 2 structures"
    )
    assert (answer.total_steps, list(answer.seeds)) == (0, ["starts"]), "nobody knows how many frames it takes"
    assert resolve("dataset:cells").seeds == {}, "one start draws nothing"


@pytest.mark.parametrize(
    ("structures", "options", "found"),
    [
        ([], {}, {"/structures": "missing-key"}),
        (["dataset:cu"], {}, {"/structures/0": "not-structures"}),
        (["dataset:cells", "dataset:cells@2/hot"], {}, {"/structures/1": "same-structure-twice"}),
        (["dataset:cells"], {"model": WATER}, {"/structures/0": "element-not-in-type-map"}),
        (["dataset:cells"], {"model": trained(1, fitting_net={"type": "dipole"})}, {"/models/0": "not-an-energy-model"}),
        (["dataset:cells"], {"model": trained(1, fitting_net={"numb_fparam": 1})}, {"/models/0": "needs-parameters"}),
        (["dataset:cells"], {"model": uploaded(branch()), "compare": ["form"]}, {"/models/0": "already-frozen"}),
        ([], {"inline": [H2O3.model_dump()], "model": WATER}, {"/inline/0": "atoms-overlap"}),
        (
            [],
            {"inline": [{**H2O3.model_dump(), "cell": [[1, 0, 0], [2, 0, 0], [0, 0, 1]]}], "model": WATER},
            {"/inline/0": "flat-cell"},
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_at_its_place(
    structures: list[str], options: dict[str, Any], found: dict[str, str]
) -> None:
    assert codes(resolve(*structures, **options)) == found


def test_a_cell_can_only_relax_where_there_is_one() -> None:
    sane = {"name": "pair", "symbols": ["Cu", "Cu"], "positions": [[0, 0, 0], [0, 0, 2.5]]}
    assert codes(resolve(inline=[sane], cell="filter")) == {"/inline/0": "no-cell"}


def test_a_cell_that_is_empty_on_purpose_does_not_close_unasked() -> None:
    slab = structure(cell=[[3.6, 0, 0], [0, 3.6, 0], [0, 0, 20]], without_images=["c"]).model_dump()
    refused = resolve(inline=[slab], cell="filter")
    assert codes(refused) == {"/inline/0": "partly-periodic"}
    assert "18.2 Å are empty between the atoms and their images, and the cell would close over it" in (
        refused.problems[0].message
    )
    for answer in (resolve(inline=[slab]), resolve(inline=[slab], cell="filter", on_unphysical="warn")):
        assert codes(answer) == {}
        assert "no images along c" in answer.warnings[0].message


def test_told_to_warn_it_says_the_same_and_goes_on() -> None:
    answer = resolve(inline=[H2O3.model_dump()], model=WATER, on_unphysical="warn")
    assert answer.problems == []
    message = answer.warnings[0].message
    assert "atoms 1 (H) and 2 (H) are 0.340 Å apart: 0.55 of the sum of their covalent radii, 0.62 Å" in message


def test_a_training_refuses_structures_in_words() -> None:
    draft = Draft({"data": ["dataset:cells"]}, {"data": ["dataset:cells"]}, Way())
    assert data.settle_systems(draft, ("data",), CELLS) is None
    assert draft.problems[0].code == "no-labels"
    assert "cairn relax" in str(draft.problems[0].hint)


def test_a_sane_structure_has_nothing_odd_but_what_the_model_finds() -> None:
    assert physics.findings(structure()) == []
    found = list(physics.of_model(structure(), ["Cu"], 6.0, [200], 2.6))
    assert [one.code for one in found] == ["cell-below-cutoff", *["outside-training"] * 6]
    assert (found[1].atoms, found[1].distance) == ([0, 1], pytest.approx(2.5456, abs=1e-3))
    assert not any(one.refused for one in found)


@pytest.mark.parametrize(
    ("type_map", "sel", "words"),
    [
        (["Cu"], [12], None),
        (["Cu"], [11], "atom 0 (Cu) has 12 neighbours of Cu within the model's cutoff, which takes 11 (`sel`)"),
        (["Au", "Cu"], [11, 12], None),
        (["Au", "Cu"], [11], "has 12 neighbours within the model's cutoff, which takes 11"),
    ],
)
def test_more_neighbours_than_a_model_takes_are_told(type_map: list[str], sel: list[int], words: str | None) -> None:
    """DeePMD-kit drops them without a word; a relaxation over the jumps took all its steps and did not converge."""
    found = [one for one in physics.of_model(structure(), type_map, 2.6, sel, None) if one.code == "more-than-sel"]
    assert [words in one.message for one in found if words] == ([True] if words else [])
    assert len(found) == bool(words)


def test_images_and_atoms_at_one_place_are_found() -> None:
    twice = structure(positions=[*FOUR[:3], [1.8, 0, 1.80001]])
    assert [(one.code, one.atoms) for one in physics.findings(twice)] == [("same-place", [2, 3])]
    thin = structure(symbols=["Cu"], positions=[[0, 0, 0]], cell=[[1.2, 0, 0], [0, 9, 0], [0, 0, 9]])
    own = physics.findings(thin)[0]
    assert (own.code, own.atoms, own.distance) == ("atoms-overlap", [0, 0], pytest.approx(1.2))
    assert "atom 0 (Cu) and its own image" in own.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cell": [[0.01, 0, 0], [0, 0.01, 0], [0, 0, 0.01]]}, "2.5e-07 Å³ for each of 4 atoms"),
        ({"cell": [[0.02, 0, 0], [0, 50, 0], [0, 0, 50]]}, "0.02 Å high in its shortest direction"),
        (
            {"symbols": ["Cu"] * 4000, "positions": [[1e-5 * n, 1e-5, 1e-5] for n in range(4000)], "cell": None},
            "4000 atoms are within 1 Å³, atom 0 (Cu) among them",
        ),
    ],
)
def test_atoms_without_room_are_refused_before_their_neighbours_are_listed(changes: dict[str, Any], words: str) -> None:
    """A cell of 0.01 Å kept the server busy for minutes, and 8 GiB of its memory."""
    answer = resolve(inline=[structure(**changes).model_dump()], on_unphysical="warn")
    assert codes(answer) == {"/inline/0": "too-dense"}
    assert words in answer.problems[0].message
    assert "are these fractions of the cell" in str(answer.problems[0].hint)


def test_a_place_is_within_a_tenth_of_a_millimetre() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1000000"):
        structure(positions=[*FOUR[:3], [0, 0, 1e308]])
