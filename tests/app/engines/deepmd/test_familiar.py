"""Structures against the data that a model was trained on: what is nearer, farther, or new, with atoms and numbers."""

from dataclasses import replace
from typing import Any

from app.engines.base import DatasetFacts, Model
from app.engines.deepmd import relaxing
from app.engines.deepmd.relaxing import Relaxing
from app.wire.datasets import Distances
from app.wire.problems import Notice
from tests.app.engines.deepmd.named_models import branch, system, uploaded

COLD = Distances(
    cutoff=6.0, frames=10, nearest={"H-O": 0.95, "H-H": 1.5}, farthest={"H": 1.02, "O": 1.01}
)  # fmt: skip
HOT = Distances(cutoff=6.0, frames=4, nearest={"H-O": 0.93, "H-H": 1.5}, farthest={"H": 1.2, "O": 1.1})
WATER = DatasetFacts(
    "water", 2, "e" * 64, (system("cold", 10, "O", "H"), system("hot", 4, "O", "H")), ("O", "H"),
    distances={"cold": COLD, "hot": HOT},
)  # fmt: skip
BOTH = ("dataset:water@2/cold", "dataset:water@2/hot")
OH = {"name": "oh", "symbols": ["O", "H", "H"], "positions": [[0, 0, 0], [0, 0, 0.94], [1.3, 0, 0]]}
"""One bond of 0.94 Å, one of 1.3 Å."""


def model(*systems: str, name: str = "job:1@400", known: DatasetFacts = WATER, **training: Any) -> Model:
    section = {"type_map": ["O", "H", "Na"], "fitting_net": {"type": "ener"}}
    config = {"model": section, "training": {"training_data": {"systems": list(systems)}, **training}}
    return Model(name, name.ljust(64, "0"), config=config, data=dict.fromkeys(systems, known))


def told(*models: Model, head: str | None = None, structure: Any = OH) -> list[Notice]:
    config = {"models": ["m"], "inline": [structure], "on_unphysical": "warn", "head": head}
    answer = Relaxing().resolve(config, root_seed=7, datasets={}, models={"m": list(models)})
    assert answer.problems == []
    assert all(one.pointer == "/inline/0" for one in answer.warnings)
    return answer.warnings


def test_atoms_are_told_what_the_data_do_not_have() -> None:
    near, far = told(model(BOTH[0]))
    assert "atoms 1 (H) and 0 (O) are 0.940 Å apart: nearer than any H-O pair of the data that" in near.message
    assert near.message.endswith("job:1@400 was trained on (0.950 Å)")
    assert "atom 2 (H) is 1.300 Å from the nearest other atom: farther than any H of the data that" in far.message
    assert {near.code, far.code} == {"outside-training"}
    [far] = told(model(*BOTH))
    assert far.message.endswith("(1.200 Å)"), "the hot system has shorter bonds, and longer ones"


def test_what_occurs_nowhere_is_told_apart() -> None:
    alone = {"name": "salt", "symbols": ["O", "H", "Na"], "positions": [[0, 0, 0], [0, 0, 0.97], [40, 0, 0]]}
    [strange] = told(model(*BOTH), structure=alone)
    assert (strange.code, "Na is in no frame of the data that" in strange.message) == ("untrained-element", True)
    apart = replace(WATER, distances={"cold": COLD.model_copy(update={"nearest": {"H-O": 0.95}})})
    [pair] = told(model(BOTH[0], known=apart), structure={**OH, "positions": [[0, 0, 0], [0, 0, 0.97], [0, 0.99, 0]]})
    assert "atoms 1 (H) and 2 (H) are 1.386 Å apart: nearer than any H-H pair of" in pair.message
    assert pair.message.endswith("(6.000 Å)"), "so far was looked"
    [lost] = told(model(BOTH[0]), structure={**OH, "positions": [[0, 0, 0], [0, 0, 0.97], [0, 30, 0]]})
    assert "atom 2 (H) is more than 6 Å from the nearest other atom" in lost.message


def test_an_element_that_was_in_no_frame_looked_at_is_not_called_new() -> None:
    rare = replace(WATER, systems=(system("cold", 10, "O", "H", "Na"),))
    alone = {"name": "salt", "symbols": ["O", "H", "Na"], "positions": [[0, 0, 0], [0, 0, 0.97], [2, 0, 0]]}
    assert told(model(BOTH[0], known=rare), structure=alone) == []


def test_frames_that_were_not_looked_at_are_owned_up_to() -> None:
    large = replace(WATER, systems=(system("cold", 2000, "O", "H"),))
    near, _ = told(model(BOTH[0], known=large))
    assert near.message.endswith("(0.950 Å; 10 of 2,000 frames were looked at)")


def test_replicas_say_it_once_and_models_of_other_data_for_themselves() -> None:
    replicas = [model(BOTH[0], name=f"job:{number}@400") for number in (1, 2, 3)]
    warnings = told(*replicas, model(*BOTH, name="job:9@400"))
    assert ["job:1@400 (and 2 more)" in one.message for one in warnings] == [True, True, False]


def test_a_task_is_compared_with_its_own_data() -> None:
    several = model(*BOTH)
    section = several.config["model"] if several.config else {}
    data = {name: {"training_data": {"systems": ref}} for name, ref in zip(("cold", "hot"), BOTH, strict=True)}
    config = {"model": {"model_dict": {"cold": section, "hot": section}}, "training": {"data_dict": data}}
    several = replace(several, config=config)
    assert len(told(several, head="cold")) == 2
    assert len(told(several, head="hot")) == 1
    answer = Relaxing().resolve(
        {"models": ["m"], "inline": [OH], "head": "ice"}, root_seed=7, datasets={}, models={"m": [several]}
    )
    assert [one.code for one in answer.problems] == ["no-such-head"]


def test_where_the_data_are_not_known_nothing_is_said() -> None:
    unmeasured = replace(WATER, distances={})
    assert told(model(*BOTH, known=unmeasured)) == [], "sent before distances were measured"
    assert told(replace(model(*BOTH), data={})) == [], "deleted"
    config = {"models": ["m"], "inline": [{**OH, "symbols": ["Cu", "Cu", "Cu"]}], "on_unphysical": "warn"}
    answer = Relaxing().resolve(config, root_seed=7, datasets={}, models={"m": [uploaded(branch())]})
    assert "outside-training" not in {one.code for one in answer.warnings}, "nobody knows what it was trained on"


def test_of_very_many_the_first_are_told(monkeypatch: Any) -> None:
    monkeypatch.setattr(relaxing, "MOST_TOLD", 1)
    config = {"models": ["m"], "inline": [OH, {**OH, "name": "other"}]}
    answer = Relaxing().resolve(config, root_seed=7, datasets={}, models={"m": [model(BOTH[0])]})
    assert len(answer.warnings) == 2
    assert "names 2 structures more with 3 such distances" in answer.warnings[1].message
