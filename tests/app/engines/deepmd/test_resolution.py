"""What holds for every input, beside the single cases."""

import copy
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from deepmd.dpmodel.utils.learning_rate import LearningRateExp
from deepmd.dpmodel.utils.training_utils import compute_total_numb_batch
from deepmd.utils.argcheck import normalize
from deepmd.utils.data_system import prob_sys_size_ext, process_sys_probs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.engines.base import Base
from app.engines.deepmd import ENGINE
from app.engines.deepmd.batches import batches_per_epoch
from app.engines.deepmd.schedule import effective_decay_steps
from app.engines.documents import leaves, lookup, pointer
from app.wire.datasets import SystemSummary
from app.wire.problems import Problem
from app.wire.resolution import Resolution
from tests.app.engines.deepmd.support import all_datasets, base, change, model, resolve_input, run

MODERN = ("copper", "dpa1", "dpa2", "dpa3", "hybrid", "tasks")
ALL = (*MODERN, "v1")


def resolved(name: str, **options: Any) -> Resolution:
    answer = resolve_input(base(name), **options)
    assert isinstance(answer, Resolution), answer
    return answer


@pytest.mark.parametrize("name", ALL)
def test_every_leaf_has_exactly_one_origin(name: str) -> None:
    answer = resolved(name)
    assert set(answer.origins) == {at for at, _ in leaves(answer.config)}


@pytest.mark.parametrize("name", ALL)
def test_resolving_a_resolved_config_changes_nothing(name: str) -> None:
    first = resolved(name)
    second = resolve_input(first.config, seed=99)
    assert isinstance(second, Resolution), second
    assert second.config == first.config
    assert not any(origin.origin in ("seed", "derived") for origin in second.origins.values())


@pytest.mark.parametrize("name", ALL)
def test_key_order_does_not_matter(name: str) -> None:
    def reversed_keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reversed_keys(value[key]) for key in reversed(list(value))}
        return [reversed_keys(item) for item in value] if isinstance(value, list) else value

    first, second = resolved(name), resolve_input(reversed_keys(base(name)))
    assert isinstance(second, Resolution)
    if name != "tasks":  # there the order of the tasks is their number
        assert first.digest == second.digest
    assert first.origins == second.origins


@pytest.mark.parametrize("name", ALL)
def test_a_submitted_config_is_not_changed(name: str) -> None:
    config = base(name)
    before = copy.deepcopy(config)
    resolve_input(config)
    assert config == before


STARTS = {
    "water@3": ("init", {"model": {"type_map": ["H", "O"], "descriptor": {"rcut": 5.0, "sel": "auto"}}}),
    "attention@1": ("finetune", {"model": {"fitting_net": {"neuron": [8]}}}),
    "pretrained@2": ("finetune", {"model": {"descriptor": {"repformer": {"nlayers": 2}}}}),
    "copper-run@1": ("resume", {"training": {"numb_steps": 5000}}),
    "tasks-run@1": ("resume", {}),
    "epochs-run@1": ("resume", {"training": {"numb_epoch": 30}}),
}
"""Start mode and minimal config by base."""


def begun(name: str, config: dict[str, Any] | None = None, **options: Any) -> tuple[dict[str, Any], Resolution]:
    mode, minimal = STARTS[name]
    if config is None:
        rest = {
            "learning_rate": {"start_lr": 0.001},
            "training": {"numb_steps": 10, "training_data": {"systems": "dataset:water"}},
        }
        config = minimal if mode == "resume" else rest | minimal
    start = {"mode": mode, "base": name, "branch": "H2O" if name == "pretrained@2" else None}
    answer = resolve_input(config, **start, **options)
    assert isinstance(answer, Resolution), answer
    return config, answer


@pytest.mark.parametrize("name", STARTS)
def test_resolving_a_resolved_config_with_the_same_base_changes_nothing(name: str) -> None:
    _, first = begun(name)
    _, second = begun(name, first.config)
    assert second.config == first.config
    assert second.digest == first.digest
    assert not any(origin.origin in ("seed", "derived", "base") for origin in second.origins.values())


@pytest.mark.parametrize("name", ["water@3", "attention@1", "pretrained@2"])
def test_a_config_completed_from_a_base_is_complete_without_it(name: str) -> None:
    _, first = begun(name)
    second = resolve_input(first.config)
    assert isinstance(second, Resolution), second
    assert second.config == first.config
    assert second.digest != first.digest  # weights from a base are another beginning


@pytest.mark.parametrize("name", STARTS)
def test_every_leaf_of_a_config_from_a_base_has_one_origin_whose_source_is_told(name: str) -> None:
    _, answer = begun(name)
    assert set(answer.origins) == {at for at, _ in leaves(answer.config)}
    inherited = [origin for origin in answer.origins.values() if origin.origin == "base"]
    assert inherited
    assert all(origin.source == model(name).sha256 and (origin.note or "").startswith(name) for origin in inherited)


@pytest.mark.parametrize("name", STARTS)
def test_a_base_is_not_changed(name: str) -> None:
    before = model(name).facts.model_dump_json()
    begun(name)
    assert model(name).facts.model_dump_json() == before


@pytest.mark.parametrize("name", STARTS)
def test_key_order_does_not_matter_with_a_base(name: str) -> None:
    config, first = begun(name)
    _, second = begun(name, dict(reversed(config.items())))
    assert (first.digest, first.origins) == (second.digest, second.origins)


@pytest.mark.parametrize("name", ALL)
def test_an_input_resumes_what_was_trained_with_it(name: str) -> None:
    first = resolved(name)
    source = Base("run@1", "1" * 64, run({"from": name, "step": 1}))
    second = resolve_input(base(name), source=source, mode="resume", base="run@1")
    assert isinstance(second, Resolution), second
    assert second.config == first.config
    assert second.seeds == first.seeds
    assert second.warnings == first.warnings


@pytest.mark.parametrize("name", ALL)
def test_a_base_changes_no_explicit_value(name: str) -> None:
    """The same full input in every mode: what it says is in force, from a base as from scratch."""
    branch = {"metal": "", "water": ""} if name == "tasks" else None
    scratch = resolve_input(base(name))
    answer = resolve_input(base(name), mode="init", base="attention@1", branch=branch)
    assert isinstance(scratch, Resolution), scratch
    assert isinstance(answer, Resolution), answer
    for at, origin in scratch.origins.items():
        if origin.origin in ("explicit", "migrated"):
            assert lookup(answer.config, at) == lookup(scratch.config, at), at
            assert answer.origins[at].origin == origin.origin, at


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_is_written_explicitly_wins_over_the_base(data: st.DataObject) -> None:
    """Any choice of a full model's values, written against a base of the same kind, is in force; the rest is the base's."""
    section = resolved("dpa1").config["model"]
    offered = [(at, value) for at, value in leaves(section) if not at.endswith(("/seed", "/type", "/type_map"))]
    chosen = data.draw(st.lists(st.sampled_from(offered), unique_by=lambda pair: pair[0]))
    config = change(
        {"learning_rate": {"start_lr": 0.001}, "training": base("dpa1")["training"]},
        {"/model" + at: value for at, value in chosen}, [],
    )  # fmt: skip
    answer = resolve_input(config, mode="init", base="attention@1")
    assert isinstance(answer, Resolution), answer
    explicit = {"/model" + at for at, _ in chosen}
    source = model("attention@1").facts.branches[0].model
    for at, origin in answer.origins.items():
        if at in explicit:
            assert origin.origin == "explicit", at
            assert lookup(answer.config, at) == dict(chosen)[at.removeprefix("/model")], at
        elif origin.origin == "base":
            assert lookup(answer.config, at) == lookup({"model": source}, at), at


@pytest.mark.parametrize("name", ["copper", "dpa1", "dpa2", "dpa3", "hybrid"])
def test_deepmd_itself_accepts_the_answer_and_adds_nothing(name: str) -> None:
    answer = resolved(name)
    assert normalize(copy.deepcopy(answer.config)) == answer.config


def test_the_digest_follows_data_seed_and_config_but_no_name() -> None:
    first = resolved("copper")
    assert first.digest == resolved("copper").digest
    assert first.digest != resolved("copper", seed=1).digest
    other = resolve_input(change(base("copper"), {"/training/numb_steps": 2001}, []))
    assert isinstance(other, Resolution)
    assert other.digest != first.digest


def test_the_answer_is_json() -> None:
    for name in ALL:
        json.dumps(resolved(name).model_dump(mode="json"), allow_nan=False)


def test_the_engine_is_imported_without_torch() -> None:
    code = (
        "import sys, app.resolve, app.engines.registry as registry\n"
        "registry.get('deepmd').schema()\n"
        "heavy = {'torch', 'tensorflow', 'jax', 'deepmd.pt', 'fastapi', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_data_are_looked_up_where_old_and_new_inputs_name_them() -> None:
    for name in ALL:
        uses = list(ENGINE.data_uses(base(name)))
        assert uses
        for use in uses:
            assert lookup(base(name), use.pointer) == use.text
            assert use.ref is not None


PLACES = [at for name in ALL for at, _ in leaves(base(name))]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, -1.0, 1e300, 2**70, float("nan")])
    | st.sampled_from(["", "auto", "auto:", "se_a", "dataset:copper", "dataset:water/ice", "types", "RANDOM", "\ud800", "/etc"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["type", "seed", "systems", "list", "_a", "a/b~c", "\udfff", "model_dict", "$ref"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@st.composite
def broken_inputs(draw: st.DrawFn, config: Any = None) -> Any:
    """A real input in which a few values, at any depth, were replaced by something else or taken away."""
    config = base(draw(st.sampled_from(ALL))) if config is None else copy.deepcopy(config)
    for _ in range(draw(st.integers(1, 4))):
        holder: Any = config
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(holder[key], dict | list) and holder[key] and draw(st.booleans()):
                holder = holder[key]
                continue
            if draw(st.booleans()):
                holder[key] = draw(json_values)
            else:
                del holder[key]
            break
    return config


BROKEN_STARTS = st.sampled_from(
    [
        {"mode": "scratch"},
        {"mode": "init", "base": "water@3"},
        {"mode": "finetune", "base": "pretrained@2", "branch": "H2O"},
        {"mode": "finetune", "base": "two-lengths@1"},
        {"mode": "init", "base": "pair@1", "allow": ["model"]},
        {"mode": "resume", "base": "copper-run@1"},
        {"mode": "resume", "base": "tasks-run@1"},
        {"mode": "resume"},
    ]
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(broken_inputs(), BROKEN_STARTS)
def test_a_malformed_input_never_raises(config: dict[str, Any], start: dict[str, Any]) -> None:
    answer = resolve_input(config, **start)
    if isinstance(answer, Resolution):
        assert set(answer.origins) == {at for at, _ in leaves(answer.config)}
        return
    assert answer
    for problem in answer:
        _check_problem(config, problem)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(["water@3", "pretrained@2", "two-lengths@1", "pair@1"]), st.sampled_from(ALL))
def test_a_broken_base_never_raises(data: st.DataObject, name: str, config: str) -> None:
    """What a file of weights says of itself is as untrusted as an input."""
    sound = model(name)
    branches = [
        branch.model_copy(update={"model": data.draw(broken_inputs(branch.model))}) for branch in sound.facts.branches
    ]
    broken = replace(sound, facts=sound.facts.model_copy(update={"branches": branches}))
    answer = resolve_input(base(config), source=broken, mode="init", base=name, branch=branches[0].name)
    assert isinstance(answer, list | Resolution)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(["copper-run@1", "tasks-run@1"]), st.sampled_from([{}, *map(base, ALL)]))
def test_a_broken_checkpoint_never_raises(data: st.DataObject, name: str, config: dict[str, Any]) -> None:
    sound = model(name)
    facts = sound.facts.model_copy(update={"config": data.draw(broken_inputs(sound.facts.config))})
    answer = resolve_input(config, source=replace(sound, facts=facts), mode="resume", base=name)
    assert isinstance(answer, list | Resolution)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["model", "training", "learning_rate", "loss", "use_smooth", "x"]), json_values))
def test_an_arbitrary_document_never_raises(config: dict[str, Any]) -> None:
    answer = resolve_input(config)
    assert isinstance(answer, list)
    assert answer
    for problem in answer:
        _check_problem(config, problem)


def _check_problem(config: dict[str, Any], problem: Problem) -> None:
    """The place of a problem exists in what was submitted, and it can be sent."""
    json.dumps(problem.model_dump(), ensure_ascii=False).encode()
    if problem.pointer and not problem.pointer.startswith("/start") and "\\ud" not in problem.pointer:
        lookup(config, problem.pointer)


def test_deep_and_large_documents_are_refused() -> None:
    deep: Any = 1
    for _ in range(3000):
        deep = [deep]
    problem = resolve_input({"model": deep})
    assert isinstance(problem, list)
    assert [(item.code, item.pointer) for item in problem] == [("too-deep", "/model")]
    problem = resolve_input({"model": [0] * 200_000})
    assert isinstance(problem, list)
    assert problem[0].code == "too-large"


@pytest.mark.parametrize(("decay", "total"), [(5000, 100), (5000, 2000), (5000, 1000), (5000, 5001), (10, 10), (1, 1)])
def test_decay_steps_are_replaced_as_deepmd_replaces_them(decay: int, total: int) -> None:
    schedule = LearningRateExp(start_lr=1e-3, stop_lr=1e-5, decay_steps=decay, num_steps=total)
    assert effective_decay_steps(decay, total) == schedule.decay_steps


SIZES = st.lists(st.tuples(st.integers(1, 400), st.integers(1, 500)), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(SIZES, st.integers(1, 9), st.sampled_from(["prob_uniform", "prob_sys_size", "blocks", "fixed"]))
def test_epochs_are_as_long_as_in_deepmd(sizes: list[tuple[int, int]], batch: int, style: str) -> None:
    systems = [
        SystemSummary(name=str(index), atoms=atoms, frames=frames, elements={"H": atoms}, type_map=["H"], labels=[])
        for index, (atoms, frames) in enumerate(sizes)
    ]
    counts = [-(-frames // batch) for _, frames in sizes]
    count = len(sizes)
    blocks = f"prob_sys_size;0:{count}:0.7" if count == 1 else f"prob_sys_size;0:1:0.7;1:{count}:0.2"
    fixed = [0.25] + [-1.0] * (count - 1) if count > 1 else [1.0]
    data = {"batch_size": batch, "auto_prob": blocks if style == "blocks" else style, "sys_probs": None}
    if style == "fixed":
        data["sys_probs"] = fixed
        weights = process_sys_probs(fixed, counts)
    elif style == "prob_uniform":
        weights = [1 / count] * count
    else:
        weights = prob_sys_size_ext(blocks if style == "blocks" else f"prob_sys_size;0:{count}:1.0", count, counts)
    assert batches_per_epoch(data, systems) == compute_total_numb_batch(counts, np.asarray(weights))


def test_all_datasets_of_the_cases_are_used() -> None:
    assert set(all_datasets()) == {"copper", "water", "energies"}
    assert pointer("a/b", "c~d") == "/a~1b/c~0d"
