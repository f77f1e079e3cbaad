"""Resolution around the engines: data that do not exist, the digest, and the promise about origins."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engines import registry
from app.engines.base import Base, DatasetFacts, DataUse, Engine, EngineResolution
from app.engines.documents import canonical, leaves, lookup, malformed, parts, pointer
from app.engines.layers import Layer, merge
from app.resolve import data_uses, resolve
from app.wire.datasets import DatasetRef
from app.wire.models import BaseFacts
from app.wire.resolution import Origin, Resolution
from app.wire.submission import JobSubmit


class Toy:
    """An engine whose config is `{"data": text, "rate": number}`; `forget` leaves an origin out."""

    name = "toy"
    library = "pydantic"

    def __init__(self, forget: bool = False) -> None:
        self.forget = forget
        self.beginning: dict[str, Any] = {}

    def data_uses(self, config: Mapping[str, Any]) -> Iterator[DataUse]:
        if config["data"]:
            yield DataUse("/data", config["data"], DatasetRef.parse(config["data"]))

    def resolve(
        self,
        config: Mapping[str, Any],
        *,
        root_seed: int,
        datasets: Mapping[str, DatasetFacts],
        start: Any,
        base: Any,
        ranks: int,
    ) -> EngineResolution:
        facts = datasets.get(config["data"])
        if facts is None:
            return EngineResolution({}, {}, {}, 0)
        full = {"data": f"dataset:{facts.name}@{facts.version}", "rate": config.get("rate", 1)}
        origins = {at: Origin(origin="explicit") for at, _ in leaves(full)}
        if self.forget:
            del origins["/rate"]
        return EngineResolution(full, origins, {"toy": root_seed}, 10, beginning=self.beginning)


def answer(config: dict[str, Any], *, seed: int = 1, digest: str = "a", forget: bool = False) -> Any:
    facts = DatasetFacts("copper", 3, digest, (), ())
    datasets = dict.fromkeys(("dataset:copper", "dataset:copper@3"), facts)
    return resolve(
        cast("Engine", Toy(forget)),
        JobSubmit(config=config),
        datasets=datasets,
        root_seed=seed,
        known=["copper", "water"],
    )


def problem(config: dict[str, Any]) -> Any:
    found = answer(config)
    assert isinstance(found, list)
    assert len(found) == 1
    return found[0]


def test_a_near_name_is_suggested() -> None:
    found = problem({"data": "dataset:coper"})
    assert (found.code, found.pointer) == ("unknown-dataset", "/config/data")
    assert found.hint == "Did you mean dataset:copper?"


def test_without_a_near_name_the_way_to_upload_is_shown() -> None:
    assert problem({"data": "dataset:zzz"}).hint == "Upload it first: `cairn dataset add PATH --name zzz`."


def test_a_version_that_does_not_exist_is_not_a_name_that_does_not() -> None:
    found = problem({"data": "dataset:copper@9"})
    assert "no such dataset version" in found.message
    assert "cairn dataset show copper" in found.hint


def test_a_path_is_refused_with_the_way_to_name_it() -> None:
    found = problem({"data": "../data/Water Box.extxyz"})
    assert found.code == "data-not-a-dataset"
    assert "`cairn dataset add PATH --name water-box-extxyz`" in found.hint


def test_the_digest_is_the_same_however_the_data_were_named() -> None:
    assert answer({"data": "dataset:copper"}).digest == answer({"data": "dataset:copper@3"}).digest


@pytest.mark.parametrize("change", [{"seed": 2}, {"digest": "b"}, {"config": {"data": "dataset:copper", "rate": 2}}])
def test_the_digest_follows_all_that_decides_the_training(change: dict[str, Any]) -> None:
    config = change.pop("config", {"data": "dataset:copper"})
    assert answer(config, **change).digest != answer({"data": "dataset:copper"}).digest


FACTS = BaseFacts(engine="toy", form="Toy", architecture="", branches=[], tensors=[], parameters=0, step=5, seed=77)


def started(
    start: dict[str, Any], *, facts: BaseFacts = FACTS, seed: int | None = None, text: str = "dataset:copper"
) -> Any:
    toy = Toy()
    toy.beginning = {"": start.get("fitting") or "reuse"}
    return resolve(
        cast("Engine", toy),
        JobSubmit(config={"data": text}, start=start, seed=seed),
        datasets={"dataset:copper": DatasetFacts("copper", 3, "a", (), ())},
        root_seed=1 if seed is None else seed,
        base=Base("toy@1", "0" * 64, facts),
    )


def test_a_resumed_training_keeps_its_seed() -> None:
    found = started({"mode": "resume", "base": "toy@1"})
    assert (found.seed, found.seeds) == (77, {"toy": 77})
    assert started({"mode": "resume", "base": "toy@1"}, seed=77).seed == 77


def test_a_resumed_training_with_another_seed_is_refused() -> None:
    found = started({"mode": "resume", "base": "toy@1"}, seed=5)
    assert [(item.code, item.pointer) for item in found] == [("contradicts-base", "/seed")]
    assert "seed is 5, but toy@1 was trained with 77" in found[0].message


def test_a_new_training_from_a_base_has_a_seed_of_its_own() -> None:
    assert started({"mode": "init", "base": "toy@1"}, seed=5).seed == 5


def test_the_digest_follows_the_start_and_not_how_it_was_written() -> None:
    first = started({"mode": "init", "base": "toy@1"}).digest
    assert first == started({"mode": "init", "base": "toy", "fitting": "reuse", "allow": ["data"]}).digest
    assert first != started({"mode": "finetune", "base": "toy@1"}).digest
    assert first != started({"mode": "init", "base": "toy@1", "fitting": "new"}).digest
    assert first != answer({"data": "dataset:copper"}).digest


def test_a_base_that_the_caller_does_not_have_leaves_the_rest_to_be_said() -> None:
    submit = JobSubmit(config={"data": "dataset:copper"}, start={"mode": "init", "base": "gone@1"})
    facts = {"dataset:copper": DatasetFacts("copper", 3, "a", (), ())}
    assert resolve(cast("Engine", Toy()), submit, datasets=facts, root_seed=1) == []


def test_a_resumed_training_uses_its_data_unless_others_are_named() -> None:
    facts = FACTS.model_copy(update={"config": {"data": "dataset:old@1"}})
    base, toy = Base("toy@1", "0" * 64, facts), cast("Engine", Toy())

    def uses(text: str, mode: str) -> list[tuple[str, str]]:
        submit = JobSubmit(config={"data": text}, start={"mode": mode, "base": "toy@1"})
        return [(use.pointer, use.text) for use in data_uses(toy, submit, base)]

    assert uses("", "resume") == [("/start/base", "dataset:old@1")]
    assert uses("dataset:copper", "resume") == [("/config/data", "dataset:copper")]
    assert uses("", "init") == []


def test_the_resolution_carries_seeds_and_steps() -> None:
    found = answer({"data": "dataset:copper"}, seed=7)
    assert isinstance(found, Resolution)
    assert (found.seed, found.seeds, found.total_steps) == (7, {"toy": 7}, 10)


def test_an_engine_that_forgets_an_origin_is_found_out() -> None:
    with pytest.raises(AssertionError, match="leaves without origin: \\['/rate'\\]"):
        answer({"data": "dataset:copper"}, forget=True)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (float("nan"), "not-finite"),
        (float("-inf"), "not-finite"),
        (2**70, "out-of-range"),
        ("\udc00", "not-text"),
        ("a\0b", "not-text"),
    ],
)
def test_values_that_no_engine_accepts(value: Any, code: str) -> None:
    found = malformed({"a": [{"b": value}]})
    assert [(item.code, item.pointer) for item in found] == [(code, "/a/0/b")]


def test_keys_that_are_no_text() -> None:
    found = malformed({"a": {"\ud800": 1}})
    assert [item.code for item in found] == ["not-text"]
    assert found[0].model_dump_json()


def test_engines_have_names_of_their_own_and_are_found_by_them() -> None:
    names = [engine.name for engine in registry.ENGINES]
    assert len(set(names)) == len(names)
    assert all(registry.get(name) is not None for name in names)
    assert registry.get("deepmdd") is None


documents = st.recursive(
    st.none() | st.integers(0, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc/~"), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abc"), documents, max_size=3)


@given(objects)
def test_every_leaf_is_where_its_pointer_says(document: dict[str, Any]) -> None:
    found = dict(leaves(document))
    for at, value in found.items():
        assert lookup(document, at) == value
        assert pointer(*parts(at)) == at


@given(objects, objects, objects)
def test_the_strongest_layer_always_wins_and_the_others_are_named(
    explicit: dict[str, Any], base: dict[str, Any], default: dict[str, Any]
) -> None:
    layers = [Layer("explicit", explicit), Layer("base", base, "sha256"), Layer("default", default)]
    merged = merge(layers)
    for at, value in leaves(explicit):
        if value != {}:  # an empty object says nothing about what is in it
            assert lookup(merged.document, at) == value
    for at, value in leaves(merged.document):
        candidates = merged.candidates[at]
        if candidates:
            assert candidates[0].value == value or value == {}


def test_layers_are_merged_key_by_key() -> None:
    merged = merge([Layer("explicit", {"a": {"x": 1}}), Layer("default", {"a": {"x": 2, "y": [3]}, "b": None})])
    assert canonical(merged.document) == canonical({"a": {"x": 1, "y": [3]}, "b": None})
    assert [(item.origin, item.value) for item in merged.candidates["/a/x"]] == [("explicit", 1), ("default", 2)]
    assert [(item.origin, item.value) for item in merged.candidates["/a/y"]] == [("default", [3])]
