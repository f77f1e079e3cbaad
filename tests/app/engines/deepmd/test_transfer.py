"""Every case of tests/engines/deepmd/transfer.yaml: what becomes of a base's tensors, or why that may not be."""

from copy import deepcopy
from fnmatch import fnmatchcase
from typing import Any

import pytest
import yaml

from app.engines.base import Base
from app.engines.deepmd.transfer import plan
from app.wire.jobs import Resolution, Start
from app.wire.problems import Problem
from app.wire.transfer import PlannedTensor, TransferPlan
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
    if "problems" in case:
        assert isinstance(found, list), "it was planned"
        _compare_problems(found, case["problems"])
        return
    assert isinstance(found, TransferPlan), found
    assert found.counts == case["counts"]
    for pattern, expected in case.get("tensors", {}).items():
        matching = [tensor for tensor in found.tensors if fnmatchcase(tensor.name, pattern)]
        assert matching, pattern
        for tensor in matching:
            _compare_tensor(tensor, expected)
    changes = {change.pointer: change.message for change in found.function_changes}
    assert changes.keys() == case.get("changes", {}).keys()
    assert all(said in changes[at] for at, said in case.get("changes", {}).items()), changes
    if "kept" in case:
        assert {share.component: [share.parameters, share.kept] for share in found.components} == case["kept"]
    _check_completeness(found, answer, _base(case["base"]))


def _compare_problems(found: list[Problem], expected: list[dict[str, Any]]) -> None:
    assert [problem.pointer for problem in found] == [entry["at"] for entry in expected], found
    for problem, entry in zip(found, expected, strict=True):
        for said in entry["says"]:
            assert said in problem.message, problem.message
        assert entry.get("hint", "") in (problem.hint or ""), problem.hint


def _compare_tensor(tensor: PlannedTensor, expected: dict[str, Any]) -> None:
    for key, value in expected.items():
        if key == "maps":
            assert {item.axis: item.indices for item in tensor.maps} == value, tensor
        elif key in ("reason", "source"):
            assert value in (getattr(tensor, key) or ""), tensor
        else:
            assert getattr(tensor, key) == value, tensor


def _check_completeness(found: TransferPlan, answer: Resolution, base: Base) -> None:
    """Every tensor of both models is spoken of, and of the new model once."""
    names = [name for tensor in found.tensors if tensor.verb != "unused" for name in (tensor.name, *tensor.aliases)]
    assert sorted(names) == sorted(tensor.name for tensor in tensors.inventory(answer.config).tensors)
    firsts = {tensor.name: tensor.alias_of or tensor.name for tensor in base.facts.tensors}
    used = {firsts[tensor.source] for tensor in found.tensors if tensor.source}
    unused = [tensor.name for tensor in found.tensors if tensor.verb == "unused"]
    assert len(unused) == len(set(unused))
    assert used | set(unused) == set(firsts.values())
    assert not used & set(unused)
