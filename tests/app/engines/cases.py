"""Cases as data, the same for every engine: what a config resolves to, or why it is refused."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.engines.documents import leaves, lookup, parts
from app.wire.problems import Problem
from app.wire.resolution import Resolution


def read(directory: Path) -> list[Any]:
    """Return every case of a directory of YAML files."""
    found = []
    for path in sorted(directory.glob("*.yaml")):
        found += [pytest.param(case, id=f"{path.stem}: {case['name']}") for case in yaml.safe_load(path.read_text())]
    return found


def check(case: dict[str, Any], answer: Resolution | list[Problem]) -> None:
    if "problems" in case:
        assert isinstance(answer, list), "it was accepted"
        compare(answer, case["problems"])
    else:
        assert isinstance(answer, Resolution), answer
        _compare_resolution(answer, case)


def compare(found: list[Any], expected: list[dict[str, Any]]) -> None:
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
    compare(answer.warnings, case.get("warnings", []))


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


def in_config(problems: list[Any]) -> list[Any]:
    """Return problems whose pointers into the config are shown without `/config`, as the cases write them."""
    return [item.model_copy(update={"pointer": (item.pointer or "").removeprefix("/config")}) for item in problems]


def change(config: dict[str, Any], changes: dict[str, Any], removed: list[str]) -> dict[str, Any]:
    """Return a config with values set and removed, by JSON pointer."""
    config = deepcopy(config)
    for at, value in changes.items():
        holder, last = _holder(config, at)
        holder[last] = value
    for at in removed:
        holder, last = _holder(config, at)
        del holder[last]
    return config


def _holder(config: dict[str, Any], at: str) -> tuple[Any, Any]:
    *path, last = parts(at)
    holder: Any = config
    for part in path:
        holder = holder[int(part)] if isinstance(holder, list) else holder.setdefault(part, {})
    return holder, int(last) if isinstance(holder, list) else last
