"""Inputs and datasets for tests of the DeePMD engine, from the YAML files."""

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from app.engines.base import DatasetFacts
from app.engines.deepmd import ENGINE
from app.engines.documents import parts
from app.resolve import resolve
from app.wire.datasets import SystemSummary
from app.wire.jobs import JobSubmit, Resolution
from app.wire.problems import Problem

DATA = Path(__file__).parents[3] / "engines" / "deepmd"
ROOT_SEED = 42


@lru_cache
def _bases() -> dict[str, Any]:
    return yaml.safe_load((DATA / "bases.yaml").read_text())


def base(name: str) -> dict[str, Any]:
    return deepcopy(_bases()["bases"][name])


def all_datasets() -> dict[str, DatasetFacts]:
    return {entry["name"]: _facts(entry) for entry in _bases()["datasets"]}


def _facts(entry: dict[str, Any]) -> DatasetFacts:
    systems = tuple(SystemSummary(type_map=list(item["elements"]), **item) for item in entry["systems"])
    types = tuple(dict.fromkeys(name for system in systems for name in system.type_map))
    digest = (entry["name"].encode().hex() * 64)[:64]
    return DatasetFacts(entry["name"], entry["version"], digest, systems, types)


def resolve_input(config: Any, *, seed: int = ROOT_SEED, mode: str = "scratch") -> Resolution | list[Problem]:
    """Resolve a config as a submission does."""
    known = all_datasets()
    datasets = {}
    for use in ENGINE.data_uses(config):
        facts = known.get(use.ref.name) if use.ref else None
        if facts and use.ref and use.ref.version in (None, facts.version):
            datasets[use.text] = facts
    submit = JobSubmit(config=config, start={"mode": mode})
    answer = resolve(ENGINE, submit, datasets=datasets, root_seed=seed, known=list(known))
    if isinstance(answer, list):
        return _in_config(answer)
    return answer.model_copy(update={"warnings": _in_config(answer.warnings)})


def _in_config(problems: list[Any]) -> list[Any]:
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
