"""Every case of tests/engines/minimind: what a config resolves to, what is planned, or why it is refused."""

from typing import Any

import pytest
import yaml

from app.engines import registry
from app.engines.minimind import ENGINE
from app.wire.resolution import Resolution
from app.wire.submission import Start
from tests.app.engines import cases, plans
from tests.app.engines.minimind.support import DATA, ROOT_SEED, base, config, inventory, resolve_config


@pytest.mark.parametrize("case", cases.read(DATA / "cases"))
def test_case(case: dict[str, Any]) -> None:
    submitted = case["config"] if "config" in case else config(case["base"])
    submitted = cases.change(submitted, case.get("set", {}), case.get("remove", []))
    cases.check(case, resolve_config(submitted, seed=case.get("seed", ROOT_SEED), **case.get("start", {})))


@pytest.mark.parametrize("case", yaml.safe_load((DATA / "transfer.yaml").read_text()), ids=lambda case: case["name"])
def test_transfer(case: dict[str, Any]) -> None:
    start = {"mode": "init", "base": case["base"], **case.get("start", {})}
    submitted = {"data": {"train": "dataset:corpus"}, "model": case.get("model", {}), **case.get("config", {})}
    answer = resolve_config(submitted, **start)
    assert isinstance(answer, Resolution), answer
    tensors = inventory(answer.config)
    found = ENGINE.plan(answer.config, answer.origins, Start.model_validate(start), base(case["base"]), tensors)
    plans.check(case, found, tensors, base(case["base"]).facts)


@pytest.mark.parametrize(
    "config",
    [{"data": {"train": "dataset:s"}}, {"data_path": "dataset:s"}, {"tokenizer": {}}, {"stage": 3}, {"use_moe": 1}],
)
def test_one_key_of_its_own_tells_whose_a_config_is(config: dict[str, Any]) -> None:
    assert [engine.name for engine in registry.ENGINES if engine.recognises(config)] == ["minimind"]
