"""Freezing: which models can be frozen, and which head is meant."""

from typing import Any

from app.engines.base import EngineResolution, Model
from app.engines.deepmd.freezing import Freezing
from tests.app.engines.deepmd.named_models import TASKS, branch, codes, trained, uploaded

KIND = Freezing()


def resolve(*models: Model, **options: Any) -> EngineResolution:
    named = {f"m{index}": [model] for index, model in enumerate(models)}
    return KIND.resolve({"models": list(named), **options}, root_seed=1, datasets={}, models=named)


def test_each_model_is_a_step() -> None:
    answer = resolve(trained(1), trained(2))
    assert (answer.problems, answer.total_steps, answer.seeds) == ([], 2, {})
    assert answer.config == {"models": ["job:1@400", "job:2@400"], "head": None}


def test_what_cannot_be_frozen_is_said_before() -> None:
    assert codes(resolve(uploaded(branch()))) == {"/models/0": "already-frozen"}
    tasks = Model("job:2@400", "2" * 64, config={"model": TASKS})
    assert codes(resolve(tasks)) == {"/models/0": "missing-head"}
    assert resolve(tasks, head="dipoles").problems == [], "any fitting net can be frozen"
