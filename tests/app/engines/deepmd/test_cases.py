"""Every case of tests/engines/deepmd/cases: what an input resolves to, or why it is refused."""

from typing import Any

import pytest
import yaml

from app.engines.documents import leaves, lookup
from app.wire.jobs import Resolution
from tests.app.engines.deepmd.support import DATA, ROOT_SEED, base, change, resolve_input


def _cases() -> list[Any]:
    found = []
    for path in sorted((DATA / "cases").glob("*.yaml")):
        found += [pytest.param(case, id=f"{path.stem}: {case['name']}") for case in yaml.safe_load(path.read_text())]
    return found


@pytest.mark.parametrize("case", _cases())
def test_case(case: dict[str, Any]) -> None:
    config = case["config"] if "config" in case else base(case["base"])
    config = change(config, case.get("set", {}), case.get("remove", []))
    answer = resolve_input(config, seed=case.get("seed", ROOT_SEED), **case.get("start", {}))
    if "problems" in case:
        assert isinstance(answer, list), "it was accepted"
        _compare(answer, case["problems"])
    else:
        assert isinstance(answer, Resolution), answer
        _compare_resolution(answer, case)


def _compare(found: list[Any], expected: list[dict[str, Any]]) -> None:
    """Every expected entry is there, in any order, and nothing else."""
    places = sorted((problem.code, problem.pointer or "") for problem in found)
    assert places == sorted((entry["code"], entry.get("at", "")) for entry in expected), found
    for entry in expected:
        same = [item for item in found if item.code == entry["code"] and (item.pointer or "") == entry.get("at", "")]
        assert any(
            entry.get("says", "") in item.message and entry.get("hint", "") in (item.hint or "") for item in same
        ), (entry, same)


def _compare_resolution(answer: Resolution, case: dict[str, Any]) -> None:
    assert set(answer.origins) == {at for at, _ in leaves(answer.config)}
    for at, expected in case.get("values", {}).items():
        assert lookup(answer.config, at) == expected, at
    for at in case.get("absent", []):
        with pytest.raises((LookupError, TypeError)):
            lookup(answer.config, at)
    for at, expected in case.get("origins", {}).items():
        _compare_origin(at, answer.origins[at].model_dump(), expected)
    for name, expected in case.get("seeds", {}).items():
        assert answer.seeds[name] == expected, name
    if "steps" in case:
        assert answer.total_steps == case["steps"]
    _compare(answer.warnings, case.get("warnings", []))


def _compare_origin(at: str, found: dict[str, Any], expected: dict[str, Any] | str) -> None:
    if isinstance(expected, str):
        assert found["origin"] == expected, at
        return
    for key, value in expected.items():
        if key == "losing":
            assert [[item["origin"], item["value"]] for item in found["losing"]] == value, at
        elif key in ("note", "ignored"):
            assert value in (found[key] or ""), (at, key, found[key])
        else:
            assert found[key] == value, (at, key)
