"""Tests of models: what their config resolves to, and which models and data do not go together."""

from typing import Any

import pytest

from app.engines.base import DatasetFacts, EngineResolution, Model
from app.engines.deepmd.testing import ModelTest
from tests.app.engines.deepmd.named_models import DATA, TASKS, branch, codes, system, trained, uploaded

KIND = ModelTest()
BARE = DatasetFacts("bare", 1, "b" * 64, (system("md", 3, "Cu").model_copy(update={"labels": ["dipole"]}),), ("Cu",))


def resolve(*models: Model, data: tuple[str, ...] = ("dataset:cu@3/md",), **options: Any) -> EngineResolution:
    named = {f"m{index}": [model] for index, model in enumerate(models)}
    config = {"models": list(named), "data": list(data), **options}
    assert KIND.document.model_validate(config)
    return KIND.resolve(config, root_seed=1, datasets={**DATA, "dataset:bare": BARE}, models=named)


def test_a_config_is_completed_and_pinned() -> None:
    answer = resolve(trained(1), data=("dataset:cu",))
    assert answer.problems == []
    assert answer.config == {
        "models": ["job:1@400"], "data": ["dataset:cu@3/md", "dataset:cu@3/hot"],
        "numb_test": 0, "detail": True, "worst": 10, "head": None,
    }  # fmt: skip
    assert (answer.total_steps, answer.seeds) == (14, {})


@pytest.mark.parametrize(("most", "frames"), [(3, 3 + 3), (5, 5 + 4), (100, 14)])
def test_frames_are_counted_as_dp_test_takes_them(most: int, frames: int) -> None:
    assert resolve(trained(1), trained(2), data=("dataset:cu",), numb_test=most).total_steps == frames


def test_models_may_have_type_maps_of_their_own() -> None:
    assert resolve(trained(1, type_map=["Au", "Cu"]), trained(2)).problems == []


def test_data_that_cannot_be_compared_with() -> None:
    answer = resolve(trained(1), trained(2, type_map=["Cu", "Au"]), data=("dataset:cu@3/md", "dataset:au"))
    assert codes(answer) == {"/data/1": "element-not-in-type-map"}
    assert "with Au: not in job:1@400's type_map" in answer.problems[0].message
    assert codes(resolve(trained(1), data=("dataset:bare",))) == {"/data": "missing-label"}
    assert codes(resolve(trained(1), data=("dataset:cu@3/md", "dataset:bare"))) == {"/data": "missing-label"}
    twice = resolve(trained(1), data=("dataset:cu", "dataset:cu@3/md"))
    assert codes(twice) == {"/data": "same-data-twice"}
    assert "names dataset:cu@3/md twice" in twice.problems[0].message


def test_a_model_of_several_tasks_needs_its_head() -> None:
    tasks = Model("job:2@400", "2" * 64, config={"model": TASKS})
    assert resolve(tasks, head="metal").problems == []
    missing = resolve(tasks)
    assert codes(missing) == {"/models/0": "missing-head"}
    assert missing.problems[0].message.endswith("which has a model for each of its tasks: metal, dipoles")
    one_task = uploaded(branch("metal"))
    assert codes(resolve(one_task)) == {"/models/0": "missing-head"}, "its file has the task's name all the same"
    assert resolve(one_task, head="metal").problems == []
    assert codes(resolve(tasks, head="gas")) == {"/head": "no-such-head"}
    assert codes(resolve(trained(1), head="metal")) == {"/head": "no-such-head"}
    assert codes(resolve(tasks, head="dipoles")) == {"/models/0": "not-an-energy-model"}
    assert codes(resolve(trained(1, spin={"use_spin": [True]}))) == {"/models/0": "spin-model"}
    assert codes(resolve(trained(1), trained(2, sha256=trained(1).sha256))) == {"/models/1": "same-model-twice"}
