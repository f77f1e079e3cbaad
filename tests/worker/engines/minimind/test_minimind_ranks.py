"""MiniMind trainings of two ranks: windows of gradients are summed by each, put together once, and resumed bit for bit."""

import math

import pytest

from tests.worker.engines.minimind.minimind_runs import make_config, resolved
from tests.worker.engines.runs import assert_repeats, checkpoint_of, events_of, metrics_of

TWO = {"ranks": 2}


def test_two_ranks_resume_in_the_middle_of_a_window_with_the_same_bits(runs):
    """Steps 4 and 8 end no window of three, so the gradients of both ranks are in their checkpoints."""
    config = resolved(make_config())
    whole = runs.finish(config, **TWO)
    assert len(events_of(whole, "audit")) == 1
    [other] = checkpoint_of(whole, 4)["cairn"]["ranks"]["others"]
    assert other["gradients"].keys() == checkpoint_of(whole, 4)["gradients"].keys()
    rest = runs.finish(config, resume_from=whole.checkpoints / "step-4", artifacts_from=whole, **TWO)
    assert_repeats(rest, whole, after=4)


def test_a_step_of_two_ranks_takes_what_are_two_steps_of_one(runs):
    """Before anything is applied: one window of two steps on one rank has the gradients of one step on two."""
    alone = runs.train(resolved(make_config(accumulation_steps=2, max_steps=2)))
    both = runs.finish(resolved(make_config(accumulation_steps=1, max_steps=1)), artifacts_from=alone, **TWO)
    one, two, [pair] = metrics_of(alone)[1], metrics_of(alone)[2], metrics_of(both).values()
    assert pair["train/loss"] == pytest.approx((one["train/loss"] + two["train/loss"]) / 2, rel=1e-6)
    assert pair["train/perplexity"] == pytest.approx(math.exp(pair["train/loss"]), rel=1e-6), "of the mean, not a mean"
    assert pair["train/grad_norm"] == pytest.approx(two["train/grad_norm"], rel=1e-5)
