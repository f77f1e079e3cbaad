"""Transfer plans as cases, the same for every engine: what becomes of a base's tensors, or why that may not be."""

from fnmatch import fnmatchcase
from typing import Any

from app.wire.models import BaseFacts, Inventory
from app.wire.problems import Problem
from app.wire.transfer import PlannedTensor, TransferPlan


def check(case: dict[str, Any], found: TransferPlan | list[Problem], inventory: Inventory, base: BaseFacts) -> None:
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
    check_completeness(found, inventory, base)


def _compare_problems(found: list[Problem], expected: list[dict[str, Any]]) -> None:
    assert [problem.pointer for problem in found] == [entry["at"] for entry in expected], found
    for problem, entry in zip(found, expected, strict=True):
        for said in entry["says"]:
            assert said in problem.message, problem.message
        assert entry.get("hint", "") in (problem.hint or ""), problem.hint
        assert problem.allow == entry.get("allow", problem.allow)


def _compare_tensor(tensor: PlannedTensor, expected: dict[str, Any]) -> None:
    for key, value in expected.items():
        if key == "maps":
            assert {item.axis: item.indices for item in tensor.maps} == value, tensor
        elif key in ("reason", "source"):
            assert value in (getattr(tensor, key) or ""), tensor
        else:
            assert getattr(tensor, key) == value, tensor


def check_completeness(found: TransferPlan, inventory: Inventory, base: BaseFacts) -> None:
    """Every tensor of both models is spoken of, and of the new model once."""
    names = [name for tensor in found.tensors if tensor.verb != "unused" for name in (tensor.name, *tensor.aliases)]
    assert sorted(names) == sorted(tensor.name for tensor in inventory.tensors)
    firsts = {tensor.name: tensor.alias_of or tensor.name for tensor in base.tensors}
    used = {firsts[tensor.source] for tensor in found.tensors if tensor.source}
    unused = [tensor.name for tensor in found.tensors if tensor.verb == "unused"]
    assert len(unused) == len(set(unused))
    assert used | set(unused) == set(firsts.values())
    assert not used & set(unused)
