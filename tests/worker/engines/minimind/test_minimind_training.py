"""What a MiniMind training does: windows of gradients, rates, losses, validation, and how it fails."""

import json
import math

import numpy as np
import pytest
import torch

from app.engines.minimind.tokenizer import EOS
from tests.worker.engines.minimind.minimind_runs import MIXTURE, make_config, resolved
from tests.worker.engines.runs import assert_same, checkpoint_of, events_of, metrics_of
from worker.engines.minimind import model, names, optimisation, sampling, tokenizer, trainer
from worker.engines.minimind.corpus import locate
from worker.engines.minimind.optimisation import Optimisation
from worker.engines.minimind.trainer import MinimindTrainer

CPU = torch.device("cpu")


def weights_of(run, step):
    return checkpoint_of(run, step)["model"]


def test_it_learns(runs):
    run = runs.train(resolved(make_config(max_steps=60, accumulation_steps=1, learning_rate=0.01)))
    rows = metrics_of(run)
    assert rows[60]["val/loss"] < 0.7 * rows[1]["val/loss"]
    assert rows[60]["train/loss"] < 0.7 * rows[1]["train/loss"]


def test_every_step_has_its_metrics_and_windows_end_where_gradients_are_applied(straight):
    rows = metrics_of(straight)
    assert sorted(rows) == list(range(1, 12))
    assert [step for step, row in rows.items() if "train/grad_norm" in row] == [3, 6, 9, 11]
    assert [step for step, row in rows.items() if "val/loss" in row] == [1, 4, 8]
    assert all(row["train/perplexity"] == pytest.approx(math.exp(row["train/loss"]), rel=1e-5) for row in rows.values())
    assert rows[4]["val/perplexity"] == pytest.approx(math.exp(rows[4]["val/loss"]))


def test_metrics_are_those_that_the_torch_free_half_announces(runs):
    from app.engines.minimind import ENGINE

    config = resolved(make_config(model=MIXTURE))
    run = runs.train(config)
    told = {key for row in metrics_of(run).values() for key in row}
    assert told | {"perf/step_s", "perf/tokens_per_s"} == ENGINE.metric_keys(config)


def test_the_rate_is_miniminds_cosine(straight):
    rates = {step: row["lr"] for step, row in metrics_of(straight).items()}
    for step in (1, 6, 11):
        assert rates[step] == pytest.approx(1e-3 * (0.1 + 0.45 * (1 + math.cos(math.pi * step / 11))))


def _batch(rows=4, length=10, seed=0):
    tokens = torch.randint(300, (rows, length), generator=torch.Generator().manual_seed(seed))
    targets = torch.cat([tokens[:, 1:], torch.full((rows, 1), -100)], dim=1)
    return tokens, torch.arange(length).expand(rows, length), targets


def _optimisation(config):
    section = config["model"]
    return Optimisation(model.build(section), section, config["training"], CPU)


def test_a_window_of_micro_batches_is_one_step_of_their_mean():
    config = resolved(make_config(grad_clip=0.05))
    whole, parts = _optimisation(config), _optimisation(config)
    tokens, positions, targets = _batch()
    whole.accumulate(tokens, positions, targets)
    for row in range(4):
        parts.accumulate(tokens[row : row + 1], positions[row : row + 1], targets[row : row + 1])
    norms = [one.apply(1, 10)["train/grad_norm"] for one in (whole, parts)]
    assert torch.isclose(*norms, rtol=1e-4)
    assert norms[0] > 0.05, "clipped, and told as it was before"
    ours, theirs = (names.tensors(one.model) for one in (whole, parts))
    before = names.tensors(model.build(config["model"]))
    for name, tensor in ours.items():
        moved = (tensor - before[name]).norm()
        assert (tensor - theirs[name]).norm() < 0.02 * moved, name


def test_a_step_is_adamw_of_the_clipped_gradient():
    config = resolved(make_config(grad_clip=0.0, weight_decay=0.1))
    ours = _optimisation(config)
    tokens, positions, targets = _batch()
    plain = model.build(config["model"])
    optimizer = torch.optim.AdamW(
        plain.parameters(), lr=1e-3 * (0.1 + 0.45 * (1 + math.cos(math.pi / 10))), weight_decay=0.1
    )
    plain(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    ours.accumulate(tokens, positions, targets)
    ours.apply(1, 10)
    for (name, tensor), (_, wanted) in zip(
        names.tensors(ours.model).items(), names.tensors(plain).items(), strict=True
    ):
        assert torch.allclose(tensor, wanted, atol=1e-6), name


def test_only_targets_count():
    config = resolved(make_config())
    ours = _optimisation(config)
    tokens, positions, targets = _batch()
    few = torch.full_like(targets, -100)
    few[1, 3], few[2, 5] = targets[1, 3], targets[2, 5]
    logits, _ = model.predict(ours.model, tokens, positions)
    wanted = -(logits.log_softmax(-1)[1, 3, few[1, 3]] + logits.log_softmax(-1)[2, 5, few[2, 5]]) / 2
    assert torch.isclose(ours.losses(tokens, positions, few)[0], wanted, rtol=1e-5)


def test_the_balance_of_experts_is_minimised_but_not_told_as_loss():
    config = resolved(make_config(model={**MIXTURE, "router_aux_loss_coef": 100.0}))
    ours = _optimisation(config)
    batch = _batch()
    told = ours.accumulate(*batch)
    loss, aux = ours.losses(*batch)
    assert told["train/loss"] == loss
    assert told["train/aux_loss"] == aux
    assert aux > 100.0
    router = ours.model.model.layers[0].mlp.gate.weight
    assert router.grad.norm() > 1.0


def test_half_precision_keeps_full_precision_weights(monkeypatch):
    """What runs on GPUs, here with the CPU's own autocast."""
    monkeypatch.setattr(optimisation, "_autocast_dtype", lambda wanted, device: getattr(torch, wanted))
    full = _optimisation(resolved(make_config()))
    for dtype in ("bfloat16", "float16"):
        ours = _optimisation(resolved(make_config(dtype=dtype)))
        loss = ours.accumulate(*_batch())["train/loss"]
        assert torch.isclose(loss, full.losses(*_batch())[0], rtol=0.02)
        assert ours.apply(1, 10)["train/grad_norm"] < 10, "unscaled before it is clipped"
        assert all(tensor.dtype == torch.float32 for tensor in names.tensors(ours.model).values())
        assert (ours.state()["scaler"] != {}) == (dtype == "float16")


def test_the_scale_of_half_precision_goes_on_in_the_middle_of_a_window(monkeypatch, tmp_path):
    """The first windows overflow and are skipped, so the scale is not the one that a new training begins with."""
    monkeypatch.setattr(optimisation, "_autocast_dtype", lambda wanted, device: getattr(torch, wanted))
    config = resolved(make_config(dtype="float16"))
    whole, rest = _optimisation(config), _optimisation(config)
    whole._scaler._init_scale = 2.0**22
    for step in range(1, 10):
        whole.accumulate(*_batch(seed=step))
        if step % 2 == 0:
            whole.apply(step, 10)
        if step == 7:
            torch.save({"model": names.tensors(whole.model), **whole.state()}, tmp_path / "7")
    saved = torch.load(tmp_path / "7", weights_only=True)
    assert saved["scaler"]["scale"] < 2.0**22
    assert saved["scaler"]["scale"] != rest._scaler.get_scale()
    with torch.no_grad():
        for name, tensor in names.tensors(rest.model).items():
            tensor.copy_(saved["model"][name])
    rest.load(saved, saved["gradients"])
    for step in (8, 9):
        rest.accumulate(*_batch(seed=step))
        if step == 8:
            assert rest.apply(step, 10)["train/grad_norm"].isfinite()
    assert_same(
        {"model": names.tensors(rest.model), **rest.state()}, {"model": names.tensors(whole.model), **whole.state()}
    )


def test_a_cpu_says_that_it_trains_in_full_precision(straight):
    [event] = events_of(straight, "warning")
    assert event["message"] == "training.dtype bfloat16 is for GPUs: this worker has none, and trains in float32."


def test_epochs_decide_the_steps_once_the_rows_are_known(runs):
    run = runs.train(resolved(make_config(max_steps=None, epochs=1, batch_size=16, accumulation_steps=1)))
    [made] = [event for event in events_of(run, "tokens") if event["data"]["kind"] == "tokens"]
    assert max(metrics_of(run)) == -(-made["data"]["rows"] // 16)


def test_a_warm_up_that_only_the_data_show_to_be_too_long_is_refused(runs):
    cause = runs.fail(runs.make(resolved(make_config(max_steps=None, epochs=1, batch_size=500, warmup_steps=2))))
    assert (cause.failure, cause.message) == (
        "configuration",
        "training.warmup_steps is 2, but the data make only 1 steps.",
    )


def test_answers_in_another_template_are_missed_in_words(runs, data_root):
    own = tokenizer.train(locate(["dataset:s@1"], "sft", data_root), 300)
    folder = data_root / "other@1"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(own.json)
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    config = resolved(make_config("sft"))
    cause = runs.fail(runs.make({**config, "tokenizer": {"source": "dataset:other@1", "digest": None}}))
    assert (cause.failure, cause.message) == ("data", "The training data hold no token to learn.")
    assert "between <|im_start|>assistant and <|im_end|>" in cause.hint


def test_a_sample_is_what_the_weights_say_next(straight, data_root):
    events = events_of(straight, "sample")
    assert [event["data"]["step"] for event in events] == [1, 4, 8]
    assert events[-1]["data"]["prompt"] == straight.read_spec().config["training"]["sample"]["prompt"]


def test_an_answer_ends_where_the_model_ends_it(data_root):
    own = tokenizer.train(locate(["dataset:s@1"], "sft", data_root), 300)
    section = resolved(make_config("sft"))["model"]
    built = model.build({**section, "tie_word_embeddings": False})
    with torch.no_grad():
        built.lm_head.weight.zero_()  # every token is as likely: the first one, <|endoftext|>, is taken
    assert sampling.say(built, own, "sft", "hello", 5) == ""
    ids = sampling._asked(own, "sft", "hello")
    assert (
        own.core.decode(ids, skip_special_tokens=False) == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert sampling._asked(own, "pretrain", "hello")[0] == 1
    without = tokenizer.Tokenizer(own.json, {"bos_token": "<none>", "eos_token": EOS})
    assert sampling._asked(without, "pretrain", "") == [2], "something stands before the first token"


def test_memory_that_is_too_small_is_told_with_the_batch_and_what_to_do(runs, monkeypatch):
    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Optimisation, "accumulate", exhausted)
    cause = runs.fail(runs.make(resolved(make_config())))
    assert cause.failure == "out-of-memory"
    assert "2 rows of 48 tokens" in cause.message
    assert "training.batch_size" in cause.hint


def test_a_loss_that_is_not_finite_ends_the_training_at_its_step(runs, monkeypatch):
    original = MinimindTrainer.train_step

    def diverged(self, step):
        if step == 5:
            with torch.no_grad():
                names.tensors(self._optimisation.model)["model.norm.weight"].fill_(math.nan)
        return original(self, step)

    monkeypatch.setattr(MinimindTrainer, "train_step", diverged)
    cause = runs.fail(runs.make(resolved(make_config())))
    assert (cause.failure, cause.step) == ("non-finite", 5)


def test_validation_looks_at_the_same_rows_whatever_the_step():
    assert list(trainer.fixed(100, 5)) == list(trainer.fixed(100, 5))
    assert sorted(trainer.fixed(4, 10)) == [0, 1, 2, 3]
    assert np.std(trainer.fixed(1000, 50)) > 200, "from all over the data"
