"""Inputs and datasets for tests of the DeePMD engine, from the YAML files."""

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from app.engines.base import Base, DatasetFacts
from app.engines.deepmd import ENGINE
from app.engines.deepmd.schema import defaults
from app.engines.deepmd.tasks import expand
from app.engines.layers import Layer, merge
from app.resolve import data_uses, resolve
from app.wire.datasets import SystemSummary
from app.wire.models import BaseFacts, BranchFacts
from app.wire.problems import Problem
from app.wire.resolution import Resolution
from app.wire.submission import JobSubmit
from tests.app.engines.cases import change, in_config

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


@lru_cache
def _models() -> dict[str, Any]:
    return yaml.safe_load((DATA / "models.yaml").read_text())


@lru_cache
def model(name: str) -> Base:
    """Return a base model of models.yaml."""
    entry = _models()[name]
    facts = run(entry) if "from" in entry else _of_a_file(entry)
    return Base(name, (name.encode().hex() * 64)[:64], facts)


def _of_a_file(entry: dict[str, Any]) -> BaseFacts:
    branches = [_branch(name, section) for name, section in entry["branches"].items()]
    return BaseFacts(
        engine=entry.get("engine", "deepmd"),
        form=entry["form"],
        architecture="",
        branches=branches,
        tensors=[],
        parameters=0,
        step=entry.get("step"),
    )


def _branch(name: str, section: dict[str, Any]) -> BranchFacts:
    document = {"model": deepcopy(section)}
    full = (
        merge([Layer("explicit", document), Layer("default", defaults(document, multi_task=False))])
        if section
        else None
    )
    complete = full.document["model"] if full else {}
    return BranchFacts(name=name, type_map=section.get("type_map", []), model=complete, parameters=0)


def run(entry: dict[str, Any]) -> BaseFacts:
    """Return what a checkpoint of a job of Cairn's holds: an entry of models.yaml with `from` and `step`."""
    answer = resolve_input(change(base(entry["from"]), entry.get("set", {}), entry.get("remove", [])))
    assert isinstance(answer, Resolution), answer
    config = change(answer.config, entry.get("config", {}), [])
    tasks = expand(deepcopy(answer.config)).value["model"].get("model_dict", {"": answer.config["model"]})
    sections = {name: change(section, entry.get("numbers", {}), []) for name, section in tasks.items()}
    return BaseFacts(
        engine="deepmd",
        form="Cairn checkpoint",
        architecture="",
        branches=[
            BranchFacts(name=name, type_map=section["type_map"], model=section, parameters=0)
            for name, section in sections.items()
        ],
        tensors=[],
        parameters=0,
        step=entry["step"],
        has_optimizer=True,
        config=config,
        seed=answer.seed,
        seeds=answer.seeds,
    )


def resolve_input(
    config: Any, *, seed: int = ROOT_SEED, source: Base | None = None, **start: Any
) -> Resolution | list[Problem]:
    """Resolve a config as a submission does. Pointers into the config are returned without `/config`.

    `source` is the base itself where it is none of models.yaml.
    """
    submit = JobSubmit(config=config, start=start)
    known, found = all_datasets(), {}
    source = source or (model(submit.start.base) if submit.start.base in _models() else None)
    for use in data_uses(ENGINE, submit, source):
        facts = known.get(use.ref.name) if use.ref else None
        if facts and use.ref and use.ref.version in (None, facts.version):
            found[use.text] = facts
    answer = resolve(ENGINE, submit, datasets=found, root_seed=seed, known=list(known), base=source)
    if isinstance(answer, list):
        return in_config(answer)
    return answer.model_copy(update={"warnings": in_config(answer.warnings)})
