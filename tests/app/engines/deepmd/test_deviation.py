"""Deviations of models: what their config resolves to, and which models and data do not go together."""

from typing import Any

import pytest

from app.engines.base import EngineResolution, Model
from app.engines.deepmd.deviation import DeviationDocument, ModelDeviation
from tests.app.engines.deepmd.named_models import DATA, branch, codes, trained, uploaded

KIND = ModelDeviation()


def resolve(
    *models: Model | list[Model], data: tuple[str, ...] = ("dataset:cu@3/md",), **options: Any
) -> EngineResolution:
    """Resolve a config with a reference for each model, or list of models."""
    named = {f"m{index}": model if isinstance(model, list) else [model] for index, model in enumerate(models)}
    config = DeviationDocument(models=list(named), data=list(data), **options).model_dump(exclude_unset=True)
    return KIND.resolve(config, root_seed=1, datasets=DATA, models=named)


def test_a_config_is_completed_and_pinned() -> None:
    answer = resolve([trained(1), trained(2)], uploaded(branch()), data=("dataset:cu",), relative=0.5)
    assert answer.problems == answer.warnings == []
    assert answer.config == {
        "models": ["job:1@400", "job:2@400", "base@1"], "data": ["dataset:cu@3/md", "dataset:cu@3/hot"],
        "relative": 0.5, "atomic": False, "frequency": 1, "stride": 1, "limit": None,
    }  # fmt: skip
    kinds = {at: origin.origin for at, origin in answer.origins.items()}
    assert kinds.pop("/models") == kinds.pop("/data") == "derived"
    assert (kinds.pop("/relative"), set(kinds.values())) == ("explicit", {"default"})
    assert answer.origins["/models"].note == "m0 stands for 2 models"
    assert answer.origins["/models"].losing[0].value == ["m0", "m1"]
    assert (answer.total_steps, answer.seeds) == (14, {})


@pytest.mark.parametrize(
    ("options", "frames"), [({"stride": 3}, 4 + 2), ({"stride": 3, "limit": 3}, 3 + 2), ({"limit": 100}, 14)]
)
def test_frames_are_counted_system_by_system(options: dict[str, int], frames: int) -> None:
    assert resolve(trained(1), trained(2), data=("dataset:cu",), **options).total_steps == frames


def test_models_that_do_not_go_together() -> None:
    assert codes(resolve(trained(1))) == {"/models": "too-few-models"}
    assert codes(resolve([trained(1), trained(2)], trained(1))) == {"/models/1": "same-model-twice"}
    same = resolve(trained(1), trained(2, sha256=trained(1).sha256))
    assert "job:2@400 and job:1@400, which are the same file" in same.problems[0].message
    permuted = resolve(trained(1, type_map=["Cu", "Au"]), trained(2, type_map=["Au", "Cu"]))
    assert codes(permuted) == {"/models/1": "type-maps-differ"}
    assert 'type_map ["Au", "Cu"]: in another order than ["Cu", "Au"] of job:1@400' in permuted.problems[0].message


def test_models_that_are_not_one_model_of_energies() -> None:
    tasks = Model("job:2@400", "2" * 64, config={"model": {"model_dict": {"a": {}, "b": {}}}})
    assert codes(resolve(trained(1), tasks)) == {"/models/1": "multi-task-model"}
    assert codes(resolve(trained(1), uploaded(branch("a"), branch("b")))) == {"/models/1": "multi-task-model"}
    dipole = uploaded(branch(fitting_net={"type": "dipole"}))
    assert codes(resolve(trained(1), dipole)) == {"/models/1": "not-an-energy-model"}


def test_data_that_the_models_do_not_know() -> None:
    answer = resolve(trained(1), trained(2), data=("dataset:cu@3/md", "dataset:au"))
    assert codes(answer) == {"/data/1": "element-not-in-type-map"}
    assert 'names dataset:au@1/md with Au: not in the models\' type_map ["Cu"]' in answer.problems[0].message
    assert codes(resolve(trained(1), trained(2), data=("dataset:cu/ice",))) == {"/data/0": "unknown-system"}
