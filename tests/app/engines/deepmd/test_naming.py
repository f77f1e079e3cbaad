"""Names of files and of things derived from data."""

import re
from typing import Any

import pytest

from app.engines.deepmd import ENGINE
from app.wire.resolution import Resolution
from tests.app.engines.deepmd.support import base, change, resolve_input

DIGESTS = {"copper@2": "aa" * 32, "water@7": "bb" * 32}


def config_of(name: str, changes: dict[str, Any] | None = None, seed: int = 1) -> dict[str, Any]:
    answer = resolve_input(change(base(name), changes or {}, []), seed=seed)
    assert isinstance(answer, Resolution), answer
    return answer.config


def keys(name: str, changes: dict[str, Any] | None = None, seed: int = 1) -> dict[str, str]:
    return dict(ENGINE.artifact_keys(config_of(name, changes, seed), DIGESTS))


@pytest.mark.parametrize("name", ["copper", "dpa2", "dpa3", "hybrid", "tasks"])
def test_statistics_are_shared_by_jobs_that_differ_in_seed_schedule_and_width(name: str) -> None:
    model = "/model/model_dict/metal" if name == "tasks" else "/model"
    changes = {
        "/training/numb_steps": 7,
        "/training/disp_freq": 3,
        "/learning_rate/start_lr": 0.01,
        f"{model}/fitting_net/neuron": [3],
        "/training/enable_ema": True,
    }
    assert keys(name) == keys(name, changes, seed=2)


def test_validation_data_do_not_count() -> None:
    assert keys("copper") == keys("copper", {"/training/validation_data/batch_size": 5})


@pytest.mark.parametrize(
    ("at", "value", "kinds"),
    [
        ("/model/descriptor/rcut", 4.5, {"statistics", "neighbours"}),
        ("/model/descriptor/sel", [60], {"statistics", "neighbours"}),
        ("/model/descriptor/rcut_smth", 1.0, {"statistics"}),
        ("/model/descriptor/exclude_types", [[0, 0]], {"statistics"}),
        ("/model/data_stat_nbatch", 3, {"statistics"}),
        ("/model/fitting_net/atom_ener", [-1.0], {"statistics"}),
        ("/training/training_data/systems", ["dataset:copper/md-600K", "dataset:copper/md-300K"], {"statistics", "neighbours"}),
        ("/training/training_data/batch_size", 2, {"statistics", "neighbours"}),
        ("/model/descriptor/neuron", [4, 4], set()),
    ],
)  # fmt: skip
def test_a_key_changes_with_what_it_depends_on(at: str, value: Any, kinds: set[str]) -> None:
    before, after = keys("copper"), keys("copper", {at: value})
    assert {kind for kind in before if before[kind] != after[kind]} == kinds


def test_a_key_follows_the_content_of_the_data_not_its_name() -> None:
    config = config_of("copper")
    same = ENGINE.artifact_keys(config, {"copper@2": "cc" * 32})
    assert same != ENGINE.artifact_keys(config, DIGESTS)
    renamed = config_of("copper")
    data = renamed["training"]["training_data"]
    data["systems"] = [text.replace("copper@2", "kupfer@1") for text in data["systems"]]
    assert ENGINE.artifact_keys(renamed, {"kupfer@1": "aa" * 32}) == ENGINE.artifact_keys(config, DIGESTS)


@pytest.mark.parametrize("cutoff", ["repinit/rcut", "repinit/three_body_rcut", "repformer/rcut"])
def test_every_cutoff_of_dpa2_counts(cutoff: str) -> None:
    assert keys("dpa2")["neighbours"] != keys("dpa2", {f"/model/descriptor/{cutoff}": 5.0})["neighbours"]


@pytest.mark.parametrize(
    ("job", "stem"),
    [
        ("water", "water-se_e2_a-s42-9f3c2e"),
        ("Water, 300 K (second try)", "Water-300-K-second-try-se_e2_a-s42-9f3c2e"),
        ("../../etc/passwd", "etc-passwd-se_e2_a-s42-9f3c2e"),
        ("水", "job-se_e2_a-s42-9f3c2e"),
        ("x" * 200, "x" * 60 + "-se_e2_a-s42-9f3c2e"),
    ],
)
def test_file_stems_are_safe_and_speak(job: str, stem: str) -> None:
    found = ENGINE.file_stem(job, config_of("copper"), 42, "9f3c2e" + "0" * 58)
    assert found == stem
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}", found)


def test_a_multi_task_stem_says_how_many_tasks() -> None:
    assert ENGINE.file_stem("both", config_of("tasks"), 1, "abcdef0") == "both-2tasks-s1-abcdef"
