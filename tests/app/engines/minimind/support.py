"""Configs, datasets and bases for tests of the MiniMind engine, from tests/engines/minimind/world.yaml."""

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from app.engines.base import Base, DatasetFacts
from app.engines.minimind import ENGINE
from app.engines.minimind.keys import MODEL_DEFAULTS
from app.engines.minimind.model import EMBEDDING, HEAD, completed, shapes
from app.resolve import data_uses, resolve
from app.wire.datasets import Histogram, TextFile, TextSummary, TokenizerSummary
from app.wire.models import BaseFacts, BranchFacts, Inventory, TensorFacts
from app.wire.problems import Problem
from app.wire.resolution import Resolution
from app.wire.submission import JobSubmit
from tests.app.engines.cases import in_config

DATA = Path(__file__).parents[3] / "engines" / "minimind"
ROOT_SEED = 42


@lru_cache
def _world() -> dict[str, Any]:
    return yaml.safe_load((DATA / "world.yaml").read_text())


def config(name: str) -> dict[str, Any]:
    return deepcopy(_world()["configs"][name])


def all_datasets() -> dict[str, DatasetFacts]:
    return {entry["name"]: dataset(entry) for entry in _world()["datasets"]}


def dataset(entry: dict[str, Any]) -> DatasetFacts:
    text = tokenizer = None
    if "files" in entry:
        sizes = {"entries": 10, "characters": 1000, "size": 1200}
        files = [TextFile(name=name, form=form, **sizes) for name, form in entry["files"].items()]
        lengths = Histogram(edges=[0, 128], counts=[10 * len(files)])
        text = TextSummary(
            files=files, documents=10, conversations=0, turns=0, characters=1000, size=1200, lengths=lengths
        )
    else:
        about = entry["tokenizer"] | {"digest": entry["tokenizer"]["digest"] * 64}
        tokenizer = TokenizerSummary(model="BPE", special_tokens={}, **about)
    digest = (entry["name"].encode().hex() * 64)[:64]
    return DatasetFacts(entry["name"], entry["version"], digest, text=text, tokenizer=tokenizer)


@lru_cache
def base(name: str) -> Base:
    entry = _world()["bases"][name]
    facts = _run(entry) if "from" in entry else _of_a_file(entry)
    return Base(name, (name.encode().hex() * 64)[:64], facts)


def _of_a_file(entry: dict[str, Any]) -> BaseFacts:
    sizes = {**MODEL_DEFAULTS, **entry["model"]}
    model = completed(sizes) if isinstance(sizes["hidden_size"], int) else sizes
    found = entry.get("tokenizer")
    tokenizer = found | {"digest": found["digest"] * 64} if found else None
    return _facts("MiniMind weights", model, tokenizer)


def _run(entry: dict[str, Any]) -> BaseFacts:
    answer = resolve_config(config(entry["from"]))
    assert isinstance(answer, Resolution), answer
    tokenizer = {"digest": "a" * 64, "vocab_size": answer.config["model"]["vocab_size"], "has_chat_template": True}
    model = {key: value for key, value in answer.config["model"].items() if key != "seed"}
    known = {"step": entry["step"], "config": answer.config, "seed": answer.seed, "seeds": answer.seeds}
    return _facts("Cairn checkpoint", model, tokenizer).model_copy(update=known)


def _facts(form: str, model: dict[str, Any], tokenizer: dict[str, Any] | None) -> BaseFacts:
    section = {**model, "tokenizer": tokenizer}
    return BaseFacts(
        engine="minimind",
        form=form,
        architecture="qwen3",
        branches=[BranchFacts(name="", model=section, parameters=0)],
        tensors=tensors(model) if "head_dim" in model else [],
        parameters=0,
    )


def tensors(model: dict[str, Any]) -> list[TensorFacts]:
    """Return the tensors of a complete model section, as a worker lists them."""
    alias = EMBEDDING if model["tie_word_embeddings"] else None
    return [
        TensorFacts(
            name=name, shape=shape, dtype="float32", is_parameter=True, alias_of=alias if name == HEAD else None
        )
        for name, shape in shapes(model).items()
    ]


def inventory(config: dict[str, Any]) -> Inventory:
    return Inventory(tensors=tensors(config["model"]))


def resolve_config(config: Any, *, seed: int = ROOT_SEED, **start: Any) -> Resolution | list[Problem]:
    """Resolve a config as a submission does. Pointers into the config are returned without `/config`."""
    submit = JobSubmit(config=config, engine="minimind", start=start)
    source = base(submit.start.base) if submit.start.base in _world()["bases"] else None
    known = all_datasets()
    found = {}
    for use in data_uses(ENGINE, submit, source):
        facts = known.get(use.ref.name) if use.ref else None
        if facts and use.ref and use.ref.version in (None, facts.version):
            found[use.text] = facts
    answer = resolve(ENGINE, submit, datasets=found, root_seed=seed, known=list(known), base=source)
    if isinstance(answer, list):
        return in_config(answer)
    return answer.model_copy(update={"warnings": in_config(answer.warnings)})
