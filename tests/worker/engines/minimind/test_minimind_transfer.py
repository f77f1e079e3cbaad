"""Starting from a base: vocabulary grown or shrunk, layers added, the base's tokenizer; and the audit of seeds."""

import pytest
import torch

from tests.worker.engines.minimind.minimind_runs import make_config, resolved, start_from
from tests.worker.engines.minimind.test_minimind_exports import file_of
from tests.worker.engines.runs import events_of
from worker.engines.minimind import model, names, trainer, weights

EMBEDDING = "model.embed_tokens.weight"


class Started(Exception):
    """Carries the weights that a training would begin with."""


def begun(runs, monkeypatch, file, config, **options):
    """Return the run directory and the tensors with which a training starts from a file."""
    whole, spec = start_from(file, config, **options)
    run = runs.make(whole, **spec)
    (run.base / spec["base"]["file_name"]).write_bytes(file.read_bytes())
    found = {}

    def stop(self, step):
        found.update({name: tensor.clone() for name, tensor in names.tensors(self._optimisation.model).items()})
        raise Started

    with monkeypatch.context() as patch:
        patch.setattr(trainer.MinimindTrainer, "train_step", stop)
        assert "Started" in runs.fail(run).message
    return run, found


@pytest.fixture
def base(straight):
    return file_of(straight, 11, "step11.pt")


def only(**model):
    return {**make_config(model=model), "model": {"seed": 99, **model}, "tokenizer": {}}


def test_everything_is_copied_with_the_tokenizer(runs, straight, base, monkeypatch):
    run, started = begun(runs, monkeypatch, base, only())
    had = weights.read(base).tensors
    assert all(torch.equal(tensor, had[name]) for name, tensor in started.items())
    assert run.read_spec().config["tokenizer"]["source"] == "base"
    [audit] = events_of(run, "audit")
    assert audit["data"]["model"]["verdict"] == "from-base"
    assert [event["data"]["stage"] for event in events_of(run, "fingerprint")] == ["init", "transfer"]


def test_a_grown_vocabulary_keeps_the_old_rows_and_draws_the_new(runs, base, monkeypatch):
    run, started = begun(runs, monkeypatch, base, only(vocab_size=320))
    had = weights.read(base).tensors
    drawn = names.tensors(model.build(run.read_spec().config["model"]))
    assert torch.equal(started[EMBEDDING][:300], had[EMBEDDING])
    assert torch.equal(started[EMBEDDING][300:], drawn[EMBEDDING][300:])
    assert torch.equal(started["lm_head.weight"], started[EMBEDDING])
    [audit] = events_of(run, "audit")
    assert audit["data"]["model"]["verdict"] == "own-seed"


def test_a_shrunk_vocabulary_keeps_its_first_rows(runs, base, data_root, monkeypatch):
    config = {**only(vocab_size=280), "tokenizer": {"source": "train"}}
    _, started = begun(runs, monkeypatch, base, config)
    assert torch.equal(started[EMBEDDING], weights.read(base).tensors[EMBEDDING][:280])


def test_added_layers_are_drawn_by_their_own_seed(runs, base, monkeypatch):
    allowed = {"allow": ["model.num_hidden_layers"]}
    run, started = begun(runs, monkeypatch, base, only(num_hidden_layers=3), **allowed)
    had = weights.read(base).tensors
    drawn = names.tensors(model.build(run.read_spec().config["model"]))
    for name, tensor in started.items():
        assert torch.equal(tensor, had[name] if name in had else drawn[name]), name


def test_weights_that_another_generator_decides_end_the_training(runs, monkeypatch):
    original = model.draw

    def careless(tensors, section):
        original(tensors, section)
        with torch.no_grad():
            tensors["model.layers.1.self_attn.q_proj.weight"].normal_()  # a seed that reaches nobody

    monkeypatch.setattr(model, "draw", careless)
    cause = runs.fail(runs.make(resolved(make_config())))
    assert cause.failure == "configuration"
    assert "/model/seed" in cause.message


def test_a_seed_that_reaches_no_weight_ends_the_training(runs, monkeypatch):
    monkeypatch.setattr(model, "of_tensor", lambda seed, name: 5)
    cause = runs.fail(runs.make(resolved(make_config())))
    assert "does not reach its weights" in cause.message
