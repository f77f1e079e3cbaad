"""Every case of tests/engines/deepmd/transfer.yaml: what becomes of a base's tensors, or why that may not be."""

from copy import deepcopy
from typing import Any

import pytest
import yaml

from app.engines.base import Base
from app.engines.deepmd.transfer import plan
from app.wire.problems import Problem
from app.wire.resolution import Resolution
from app.wire.submission import Start
from app.wire.transfer import TransferPlan
from tests.app.engines import plans
from tests.app.engines.deepmd import tensors
from tests.app.engines.deepmd.support import DATA, resolve_input

DOCUMENT = yaml.safe_load((DATA / "transfer.yaml").read_text())
REST = {"learning_rate": {"start_lr": 0.001}, "loss": {}}
DATA_SECTION = {"training_data": {"systems": ["dataset:water"]}}


def _base(name: str) -> Base:
    models = deepcopy(DOCUMENT["bases"][name])
    return tensors.base(f"{name}@1", models if "" not in models else {"": models[""]})


def _submitted(case: dict[str, Any]) -> dict[str, Any]:
    model = deepcopy(case.get("model", {}))
    training: dict[str, Any] = {"numb_steps": 10, **DATA_SECTION}
    config = {"model": model, "training": training, **REST}
    if "model_dict" in model:
        training = {"numb_steps": 10, "data_dict": dict.fromkeys(model["model_dict"], DATA_SECTION)}
        config = {"model": model, "training": training, "learning_rate": REST["learning_rate"]}
        config["loss_dict"] = {task: {} for task in model["model_dict"]}
    return config


def _planned(case: dict[str, Any]) -> tuple[Resolution, TransferPlan | list[Problem]]:
    base = _base(case["base"])
    start = {"mode": "init", "base": base.name, **case.get("start", {})}
    answer = resolve_input(_submitted(case), source=base, **start)
    assert isinstance(answer, Resolution), answer
    inventory = tensors.inventory(answer.config)
    return answer, plan(answer.config, answer.origins, Start.model_validate(start), base, inventory)


@pytest.mark.parametrize("case", DOCUMENT["cases"], ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    answer, found = _planned(case)
    plans.check(case, found, tensors.inventory(answer.config), _base(case["base"]).facts)
