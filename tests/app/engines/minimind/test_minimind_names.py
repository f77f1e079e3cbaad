"""Names, keys of derived things, the learning rate and the learning curve of MiniMind trainings."""

import math
from typing import Any

import pytest

from app.engines.minimind import ENGINE
from app.engines.minimind.model import Place, shapes
from app.engines.minimind.schedule import learning_rate
from app.wire.resolution import Resolution
from tests.app.engines import cases
from tests.app.engines.minimind.support import all_datasets, config, resolve_config

DIGESTS = {f"{facts.name}@{facts.version}": facts.digest for facts in all_datasets().values()}


def _resolved(name: str = "small", **changes: Any) -> dict[str, Any]:
    answer = resolve_config(cases.change(config(name), changes, []))
    assert isinstance(answer, Resolution), answer
    return answer.config


@pytest.mark.parametrize(
    ("name", "changes", "stem"),
    [
        ("small", {}, "my-corpus-pretrain_64-s42-9f3c2e"),
        ("arguments", {}, "my-corpus-pretrain_512_moe-s42-9f3c2e"),
        ("chat", {}, "my-corpus-full_sft_768-s42-9f3c2e"),
    ],
)
def test_files_are_named_as_minimind_names_weights(name: str, changes: dict[str, Any], stem: str) -> None:
    assert ENGINE.file_stem("my corpus", _resolved(name, **changes), 42, "9f3c2e" * 10) == stem


def _differing(**changes: Any) -> set[str]:
    """Return which derived things a training cannot share that differs so from the small one."""
    keys = ENGINE.artifact_keys(_resolved(), DIGESTS)
    others = ENGINE.artifact_keys(_resolved(**changes), DIGESTS)
    return {kind for kind in keys.keys() | others.keys() if keys.get(kind) != others.get(kind)}


@pytest.mark.parametrize(
    ("at", "value", "differing"),
    [
        ("/model/hidden_size", 128, set()),
        ("/data/seed", 1, set()),
        ("/training/batch_size", 8, set()),
        ("/model/vocab_size", 600, {"tokenizer", "tokens"}),
        ("/training/max_seq_len", 64, {"tokens"}),
        ("/data/train", ["dataset:corpus/a.jsonl"], {"tokenizer", "tokens"}),
        ("/data/validation", ["dataset:mixed/books.jsonl"], {"validation_tokens"}),
    ],
)
def test_tokens_are_shared_by_trainings_that_have_the_same(at: str, value: Any, differing: set[str]) -> None:
    assert _differing(**{at: value}) == differing


def test_a_tokenizer_that_is_there_is_not_made() -> None:
    sizes = {"/tokenizer/source": "dataset:words", "/model/vocab_size": 1000}
    assert ENGINE.artifact_keys(_resolved(**sizes), DIGESTS).keys() == {"tokens"}


def test_the_learning_rate_is_minimind_s() -> None:
    training = _resolved()["training"]
    for step in (1, 50, 99, 100):
        expected = 5e-4 * (0.1 + 0.45 * (1 + math.cos(math.pi * step / 100)))
        assert learning_rate(training, step, 100) == pytest.approx(expected, rel=1e-12)


def test_a_warm_up_comes_before_the_cosine() -> None:
    training = _resolved()["training"] | {"warmup_steps": 10}
    rates = [learning_rate(training, step, 100) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([5e-5 * step for step in range(1, 11)])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(5e-5)


def test_the_curve_has_a_row_for_every_step() -> None:
    columns = {
        "train/loss": [2.0, math.nan],
        "train/aux_loss": [0.25, None],
        "lr": [1e-4, 1e-5],
        "val/loss": [None, 3.0],
    }
    assert list(ENGINE.learning_curve({}, [1, 2], columns)) == [
        "step\tloss\tlogits_loss\taux_loss\tlearning_rate\tval_loss\n",
        "1\t2.25\t2\t0.25\t0.0001\t\n",
        "2\tnan\tnan\t\t1e-05\t3\n",
    ]


def test_metrics_are_those_that_the_config_makes() -> None:
    assert "train/aux_loss" not in (ENGINE.metric_keys(_resolved()) or ())
    measured = ENGINE.metric_keys(_resolved(**{"/model/use_moe": True, "/data/validation_fraction": 0.1})) or ()
    assert {"train/aux_loss", "val/perplexity"} <= set(measured)


def test_a_layer_has_minimind_s_tensors() -> None:
    dense, experts = (_resolved(**{"/model/use_moe": is_moe})["model"] for is_moe in (False, True))
    assert shapes(dense)["model.layers.1.mlp.down_proj.weight"] == [64, 256]
    assert shapes(experts)["model.layers.1.mlp.experts.3.down_proj.weight"] == [64, 256]
    assert shapes(experts)["model.layers.0.mlp.gate.weight"] == [4, 64]
    assert shapes(dense)["model.layers.0.self_attn.k_proj.weight"] == [32, 64]
    assert Place.parse("model.layers.11.mlp.experts.3.up_proj.weight") == Place("up_proj.weight", 11, 3)
    assert Place.parse("model.layers.11.mlp.experts.3.up_proj.weight").component == "feed-forward 11"
