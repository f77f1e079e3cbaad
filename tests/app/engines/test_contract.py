"""What every engine's torch-free half keeps to, whatever it trains. A new engine gets an entry in `worlds.py`."""

import importlib.util
import json
import re
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from math import prod
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from app.engines import registry
from app.engines.base import Engine
from app.engines.documents import canonical, dotted, leaves, lookup, parts, pointer
from app.wire.models import Inventory
from app.wire.problems import Problem
from app.wire.resolution import Resolution
from app.wire.submission import MAX_SEED, Start
from app.wire.transfer import TransferPlan
from tests.app.engines import plans
from tests.app.engines.worlds import WORLDS, World

pytestmark = pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.engine.name)
some = settings(deadline=None, max_examples=25)
junk = st.sampled_from(
    [None, True, -1, 0, 3, 0.5, 10**12, "", "auto", "dataset:nothing", [], [1, "x"], {}, {"a": {"b": 1}}]
)


def _pointed_at(submission: dict[str, Any], problem: Problem) -> Any:
    return lookup(submission, problem.pointer or "")


def test_is_known_under_a_name_of_its_own(world: World) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", world.engine.name)
    assert [other.engine.name for other in WORLDS].count(world.engine.name) == 1
    assert {engine.name for engine in registry.ENGINES} <= {other.engine.name for other in WORLDS}


def test_has_all_that_is_asked_of_an_engine(world: World) -> None:
    asked = {*Engine.__annotations__, *(name for name in vars(Engine) if not name.startswith("_"))}
    assert [name for name in sorted(asked) if not hasattr(world.engine, name)] == []


def test_needs_no_torch(world: World) -> None:
    code = f"import sys, {type(world.engine).__module__}; assert not {{'torch', 'worker'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_its_other_parts(world: World) -> None:
    engine = world.engine
    places = [engine.trainer, engine.intake, *(task.worker for task in engine.tasks.values())]
    modules = [engine.errands, *(place.partition(":")[0] for place in places)]
    assert all(importlib.util.find_spec(module) for module in modules)
    assert importlib.util.find_spec(engine.trainer.partition(":")[0].rpartition(".")[0] + ".preload")


def test_its_schema_accepts_its_example(world: World) -> None:
    schema = world.engine.schema()
    Draft202012Validator.check_schema(schema)
    for config in (world.config, json.loads(world.engine.examples([])[""])):
        Draft202012Validator(schema).validate(config)


def test_recognises_its_own_configs_and_no_others(world: World) -> None:
    for other in WORLDS:
        assert other.engine.recognises(world.config) == (other is world)
    assert not world.engine.recognises({})
    assert not world.engine.recognises({"model": None, "training": 3})


def test_resolving_changes_nothing_and_repeats(world: World) -> None:
    before = deepcopy(world.config)
    first, second = world.resolved(), world.resolved()
    assert world.config == before
    assert first == second


def test_every_value_has_one_origin(world: World) -> None:
    answer = world.resolved()
    assert answer.origins.keys() == {at for at, _ in leaves(answer.config)}
    assert {origin.origin for origin in answer.origins.values()} >= {"explicit", "default", "seed"}
    for at, origin in answer.origins.items():
        if origin.origin == "explicit" and not origin.source:
            assert lookup(world.config, at) == lookup(answer.config, at)


def test_a_resolved_config_resolves_to_itself(world: World) -> None:
    answer = world.resolved()
    again = world.resolve(answer.config)
    assert isinstance(again, Resolution), again
    assert (again.config, again.digest, again.seeds) == (answer.config, answer.digest, answer.seeds)


def test_the_digest_is_that_of_the_training(world: World) -> None:
    answer = world.resolved()
    turned = world.resolve(dict(reversed(world.config.items())), name="another", tags=["x"], priority=3)
    assert isinstance(turned, Resolution)
    assert turned.digest == answer.digest
    assert world.resolved(seed=43).digest != answer.digest
    other = replace(world, datasets={name: replace(facts, digest="f" * 64) for name, facts in world.datasets.items()})
    assert other.resolved().digest != answer.digest


def test_seeds_are_those_of_the_config(world: World) -> None:
    answer, other = world.resolved(), world.resolved(seed=43)
    assert all(0 <= seed <= MAX_SEED for seed in answer.seeds.values())
    planted = [at for at, origin in answer.origins.items() if origin.origin == "seed"]
    assert planted
    for at in planted:
        assert lookup(answer.config, at) in answer.seeds.values()
        assert lookup(answer.config, at) != lookup(other.config, at)


@some
@given(data=st.data())
def test_what_is_wrong_is_said_and_where(world: World, data: st.DataObject) -> None:
    """A value anywhere is another or gone, or a key is there that should not be."""
    config = deepcopy(dict(world.config))
    at = data.draw(st.sampled_from([at for at, _ in leaves(config)]))
    *path, last = parts(at)[: data.draw(st.integers(1, at.count("/")))]
    holder = lookup(config, pointer(*path))
    key = int(last) if isinstance(holder, list) else data.draw(st.sampled_from([last, last + "s"]))
    if data.draw(st.booleans()) or key not in holder:
        holder[key] = data.draw(junk)
    else:
        del holder[key]
    start = data.draw(st.sampled_from([{}, {"mode": "init", "base": "b@1"}]))
    answer = world.resolve(config, base=world.base if start else None, start=start)
    if isinstance(answer, Resolution):
        assert answer.origins.keys() == {at for at, _ in leaves(answer.config)}
        return
    assert answer
    for problem in answer:
        _pointed_at({"config": config, "start": {"mode": "init", "base": "b@1"}}, problem)
        assert problem.message
        assert problem.hint


def test_without_its_base_only_what_is_wrong_all_the_same_is_said(world: World) -> None:
    start = {"mode": "init", "base": "lost@1"}
    assert world.resolve(world.config, start=start) == []
    assert [problem.code for problem in _problems(world.resolve({**world.config, "nonsense": 1}, start=start))] == [
        "unknown-key"
    ]


def _problems(answer: Resolution | list[Problem]) -> list[Problem]:
    assert isinstance(answer, list), answer
    return answer


def test_goes_on_to_more_steps_than_it_was_to_make(world: World) -> None:
    before = world.resolved()
    start = {"mode": "resume", "base": "job:1"}
    answer = world.resolve(world.engine.longer(before.total_steps + 7), base=world.checkpoint(50), start=start)
    assert isinstance(answer, Resolution), answer
    assert answer.total_steps == before.total_steps + 7
    assert answer.seeds == before.seeds


def test_weights_alone_are_not_resumed(world: World) -> None:
    start = {"mode": "resume", "base": world.base.name}
    assert "not-resumable" in [problem.code for problem in _problems(world.resolve({}, base=world.base, start=start))]


def _planned(world: World, config: dict[str, Any], **start: Any) -> tuple[TransferPlan | list[Problem], Inventory]:
    start = {"mode": "init", "base": world.base.name, **start}
    answer = world.resolve(config, base=world.base, start=start)
    assert isinstance(answer, Resolution), answer
    inventory = world.inventory(answer.config)
    plan = world.engine.plan(answer.config, answer.origins, Start.model_validate(start), world.base, inventory)
    return plan, inventory


def _whole(plan: TransferPlan | list[Problem], inventory: Inventory, world: World) -> TransferPlan:
    """Return a plan that speaks of every tensor of both sides, with the sums that it says."""
    assert isinstance(plan, TransferPlan), plan
    plans.check_completeness(plan, inventory, world.base.facts)
    trained = [tensor for tensor in plan.tensors if tensor.is_parameter and tensor.verb != "unused"]
    assert plan.parameters == sum(prod(tensor.shape) for tensor in trained)
    assert plan.kept == sum(share.kept for share in plan.components)
    assert all(tensor.component for tensor in plan.tensors)
    return plan


def test_the_same_model_is_copied_whole(world: World) -> None:
    plan = _whole(*_planned(world, dict(world.config)), world)
    assert plan.counts == {"copied": len(plan.tensors)}
    assert plan.kept == plan.parameters
    assert not plan.function_changes


def test_another_model_needs_leave(world: World) -> None:
    model = world.config["model"] | world.changed
    config = {**world.config, "model": model}
    refused, _ = _planned(world, config)
    assert isinstance(refused, list)
    for problem in refused:
        _pointed_at({"config": config, "start": {"base": ""}}, problem)
    leave = [key for problem in refused for key in problem.allow or []]
    assert leave == [dotted("/model" + at) for at, _ in leaves(world.changed)]
    plan = _whole(*_planned(world, config, allow=leave), world)
    assert plan.counts.keys() - {"copied"}
    assert 0 < plan.kept < plan.parameters
    strict, _ = _planned(world, config, allow=leave, on_mismatch="error")
    assert isinstance(strict, list)


def test_asks_for_one_list_of_tensors_whatever_the_seed(world: World) -> None:
    orders = {canonical(world.engine.inventory_order(world.resolved(seed=seed).config)) for seed in (1, 2)}
    assert len(orders) == 1


@some
@given(name=st.text(min_size=1, max_size=120), seed=st.integers(0, MAX_SEED))
def test_file_names_are_safe(world: World, name: str, seed: int) -> None:
    stem = world.engine.file_stem(name, _RESOLVED[world.engine.name].config, seed, "9f3c2e" + "0" * 58)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}", stem)
    assert stem.endswith(f"-s{seed}-9f3c2e")


_RESOLVED = {world.engine.name: world.resolved() for world in WORLDS}


def test_derived_things_belong_to_the_data_and_not_to_a_seed(world: World) -> None:
    engine, digests = world.engine, world.digests()
    keys = engine.artifact_keys(world.resolved().config, digests)
    assert all(re.fullmatch(r"[a-z_]+", kind) and re.fullmatch(r"[0-9a-f]{64}", key) for kind, key in keys.items())
    assert engine.artifact_keys(world.resolved(seed=43).config, digests) == keys
    others = engine.artifact_keys(world.resolved().config, dict.fromkeys(digests, "f" * 64))
    assert all(others[kind] != key for kind, key in keys.items())


def test_says_what_it_measures(world: World) -> None:
    engine, config = world.engine, world.resolved().config
    keys = engine.metric_keys(config)
    assert keys is None or keys >= {"train/loss", "lr"}
    assert keys is None or keys & set(engine.headline())
    columns = {key: [0.5, None, 0.25] for key in keys or ("train/loss", "lr")}
    lines = list(engine.learning_curve(config, [1, 2, 100], columns))
    assert len(lines) > 1
    assert all(line.endswith("\n") for line in lines)
    assert re.fullmatch(r"[\w-]+\.\w+", engine.learning_curve_name())


def test_every_tensor_is_of_some_part(world: World) -> None:
    names = [tensor.name for tensor in world.inventory(world.resolved().config).tensors]
    assert all(world.engine.component(name) for name in names)
    assert world.engine.component("what.no.model.has")
