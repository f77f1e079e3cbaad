"""A MiniMind training repeats, however it is disturbed: killed, paused, resumed, looked at otherwise, other generators."""

import json
import signal

import pytest

from tests.worker.engines import accidents
from tests.worker.engines.minimind.minimind_runs import MIXTURE, make_config, resolved
from tests.worker.engines.runs import assert_repeats, events_of, manifest_of, metrics_of, newest_checkpoint
from worker.loop import StopSwitch
from worker.rundir import Result
from worker.trainer import train

CASES = {
    "pretrain": make_config(),
    "sft": make_config("sft", max_seq_len=96),
    "mixture": make_config(model=MIXTURE, warmup_steps=3),
}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_equals_the_uninterrupted_one_also_in_the_middle_of_a_window(runs, case):
    config = resolved(CASES[case])
    whole = runs.train(config)
    accidents.stir()
    rest = runs.train(config, resume_from=whole.checkpoints / "step-4")
    assert_repeats(rest, whole, after=4)
    assert min(metrics_of(rest)) == 5
    first, last = (manifest_of(whole, step).generators for step in (4, 8))
    assert {name for name in first if first[name] != last[name]} == {"data order"}, "a step draws from no generator"


def test_a_training_goes_on_from_every_place_in_a_window(runs):
    config, known = resolved(make_config(sample={"max_new_tokens": 0})), {"checkpoints": {"every_steps": 1}}
    whole = runs.train(config, **known)
    for step in (1, 2, 3, 7, 10):
        rest = runs.train(config, resume_from=whole.checkpoints / f"step-{step}", artifacts_from=whole, **known)
        assert_repeats(rest, whole, after=step)


@pytest.mark.parametrize(
    ("moment", "step"),
    [("before the step", 5), ("after the step", 8), ("while a checkpoint is written", 8), ("before its manifest", 11)],
)
def test_a_killed_training_goes_on_with_the_same_bits(runs, straight, moment, step):
    config = resolved(make_config())
    run = runs.make(config)
    (run.root / "accident.json").write_text(json.dumps({"step": step, "moment": moment}))
    process = runs.start(run, entry="tests.worker.engines.accidents:killed")
    assert process.wait(120)
    assert process.exit_code == -signal.SIGKILL, run.log.read_text()
    saved = newest_checkpoint(run)
    rest = runs.finish(config, resume_from=saved)
    assert_repeats(rest, straight, after=manifest_of(run, int(saved.name.removeprefix("step-"))).step)


def test_a_paused_training_goes_on_with_the_same_bits(runs, straight):
    config = resolved(make_config())
    run = runs.make(config)
    (run.root / "accident.json").write_text(json.dumps({"step": 5}))
    assert runs.start(run, entry="tests.worker.engines.accidents:paused").wait(120)
    assert Result.model_validate_json(run.result.read_bytes()).outcome == "stopped"
    rest = runs.finish(config, resume_from=run.checkpoints / "step-5")
    assert_repeats(rest, straight, after=5)


@pytest.mark.parametrize("step", [0, 4])
def test_a_stop_is_heeded_before_documents_have_become_tokens(runs, straight, step):
    saved = straight.checkpoints / f"step-{step}" if step else None
    run = runs.make(resolved(make_config()), resume_from=saved)
    run.stop.write_text("checkpoint")
    result = train(run, StopSwitch(run.stop))
    assert (result.outcome, result.step) == ("stopped", step)
    assert list(run.artifacts_out.iterdir()) == []


def test_a_training_shorter_than_its_checkpoint_is_refused(runs, straight):
    """Only the data tell that there would be a single step."""
    config = resolved(make_config(max_steps=None, epochs=1, batch_size=500))
    cause = runs.fail(runs.make(config, resume_from=straight.checkpoints / "step-4", artifacts_from=straight))
    assert cause.message == "The data make 1 steps, and the checkpoint has done 4: nothing is left."


def test_global_generators_decide_nothing(runs, straight):
    run = runs.finish(resolved(make_config()), entry="tests.worker.engines.accidents:poisoned")
    assert_repeats(run, straight, but=("rng",))


def test_how_often_it_is_looked_at_decides_nothing(runs, straight):
    config = make_config(eval_interval=3, eval_batches=1, sample={"max_new_tokens": 9, "prompt": "old"})
    run = runs.train(resolved(config))
    assert_repeats(run, straight, only=lambda key: not key.startswith("val/"), but=("config",))
    assert [event["data"]["step"] for event in events_of(run, "sample")] == [1, 3, 6, 9]


def test_kept_artifacts_give_the_same_bits(runs, straight):
    run = runs.train(resolved(make_config()), artifacts_from=straight)
    assert_repeats(run, straight)
    assert events_of(run, "tokenizer")[0]["data"]["source"] == "loaded"
    assert "loaded" in events_of(run, "tokens")[0]["message"]
    assert list(run.artifacts_out.iterdir()) == []


def test_another_seed_gives_other_bits(runs, straight):
    config = resolved(make_config(model={"seed": 4}))
    assert manifest_of(runs.train(config), 4).fingerprint != manifest_of(straight, 4).fingerprint
    config = resolved(make_config(data={"seed": 77}))
    assert manifest_of(runs.train(config), 4).fingerprint != manifest_of(straight, 4).fingerprint


def test_a_checkpoint_of_another_order_is_refused(runs, straight):
    run = runs.make(resolved(make_config(data={"seed": 77})), resume_from=straight.checkpoints / "step-4")
    assert "data order" in runs.fail(run).message
