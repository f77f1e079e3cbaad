"""An interrupted training is the same training: resumed, paused or killed, it goes on with the same bits."""

import json
import random
import signal

import numpy as np
import pytest
import torch
from deepmd.utils import random as dp_random

from app.engines.deepmd import supported
from tests.worker.engines import accidents
from tests.worker.engines.deepmd.deepmd_runs import make_config, make_multi_task_config
from tests.worker.engines.runs import Quiet, assert_repeats, assert_same, manifest_of, metrics_of, newest_checkpoint
from worker.engines.deepmd import trainer as engine_trainer
from worker.rundir import Result

pytestmark = pytest.mark.deepmd

WARM_UP = {"type": "cosine", "start_lr": 0.001, "stop_lr": 1e-5, "warmup_steps": 5, "warmup_start_factor": 0.1}
ADAMUON = {"type": "AdaMuon"}


def _made(descriptor="se_e2_a", *, sections=None, **training):
    return {**make_config(descriptor, **training), **(sections or {})}


def _multi_task(**training):
    config = make_multi_task_config()
    config["training"] |= training
    return {**config, "learning_rate": WARM_UP}


AVERAGED = {"enable_ema": True, "gradient_max_norm": 0.5, "sections": {"learning_rate": WARM_UP}}
CASES = {
    "se_e2_a": _made(),
    "se_e2_a, EMA, warm-up, clipping": _made(**AVERAGED),
    "se_e2_r, AdamW": _made("se_e2_r", sections={"optimizer": {"type": "AdamW", "weight_decay": 0.01}}),
    "se_e3, AdaMuon": _made("se_e3", sections={"optimizer": ADAMUON}),
    "se_e3_tebd": _made("se_e3_tebd", gradient_max_norm=0.5),
    "se_atten, HybridMuon": _made(
        "se_atten", sections={"optimizer": {"type": "HybridMuon", "enable_gram": False, "magma_muon": True}}
    ),
    "se_atten_v2, warm-up": _made("se_atten_v2", sections={"learning_rate": WARM_UP}),
    "dpa2, EMA, warm-up, clipping": _made("dpa2", **AVERAGED),
    "dpa3, EMA": _made("dpa3", enable_ema=True),
    "hybrid": _made("hybrid"),
    "multi-task, EMA, warm-up, clipping": _multi_task(enable_ema=True, gradient_max_norm=0.5),
}


def test_every_supported_descriptor_and_optimizer_is_among_the_cases():
    singles = [case for case in CASES.values() if "descriptor" in case["model"]]
    assert {case["model"]["descriptor"]["type"] for case in singles} == supported.DESCRIPTORS
    assert {case.get("optimizer", {"type": "Adam"})["type"] for case in singles} == supported.OPTIMIZERS


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(runs, device, case):
    whole = runs.train(CASES[case], device=device)
    accidents.stir()
    rest = runs.train(CASES[case], device=device, resume_from=whole.checkpoints / "step-4")
    assert_repeats(rest, whole, after=4)
    assert min(metrics_of(rest)) == 5
    assert _moved(whole) == {"data order"}, "a step draws from no generator"


def _moved(run):
    first, last = (manifest_of(run, step).generators for step in (4, 8))
    assert first.keys() == last.keys() >= {"python", "numpy", "torch", "dp_random"}
    return {name for name, digest in first.items() if last[name] != digest}


def test_restoring_overwrites_all_that_a_trainer_has(runs, tmp_path):
    """Weights, moments in their own precision, averages, schedule, and every generator."""
    config = _made(enable_ema=True, sections={"learning_rate": WARM_UP, "optimizer": ADAMUON})
    run = runs.make(config, determinism="seeded")
    first, second = (engine_trainer.DeepmdTrainer(run.read_spec(), Quiet(run.root)) for _ in range(2))
    for step in (1, 2, 3):
        first.train_step(step)
    accidents.stir()
    first.save(tmp_path, 3)
    expected = _draw(), first.train_step(4)

    second.train_step(1)
    accidents.stir()
    assert second.restore(tmp_path) == 3
    assert (_draw(), second.train_step(4)) == expected
    assert second.fingerprint() == first.fingerprint()
    ours, theirs = second._trainer, first._trainer
    assert_same(ours.optimizer.state_dict(), theirs.optimizer.state_dict())
    assert_same(ours.model_ema.state_dict(), theirs.model_ema.state_dict())


def _draw():
    return random.random(), np.random.rand(), torch.rand(2).tolist(), dp_random.random()


# --- kill -9 ----------------------------------------------------------------------------------------------------------


def _kills(count, steps, every):
    """Yield (step, moment) of random accidents, the same at every run of the tests; early ones come before any checkpoint."""
    chance = random.Random(4457)
    moments = chance.sample(accidents.MOMENTS * count, count)
    yield from zip(sorted(chance.sample(range(2, steps - every), count)), moments, strict=True)


def _disturbed(runs, config, device, how, accident, before, **options):
    """Train in a process of its own from the newest checkpoint of `before` on, until an accident; return both."""
    run = runs.make(config, resume_from=newest_checkpoint(before) if before else None, **options)
    (run.root / "accident.json").write_text(json.dumps(accident))
    process = runs.start(run, entry=f"tests.worker.engines.accidents:{how}", device=device)
    assert process.wait(250), run.log.read_text()
    return run, process


def _killed_ten_times(runs, config, device, *, steps, every):
    reference = runs.finish(config, device=device, checkpoints={"every_steps": every})
    known = {"checkpoints": {"every_steps": every}, "artifacts_from": reference}
    seen, newest = {}, None
    for step, moment in _kills(10, steps, every):
        accident = {"step": step, "moment": moment}
        run, process = _disturbed(runs, config, device, "killed", accident, newest, **known)
        assert process.exit_code == -signal.SIGKILL, run.log.read_text()
        assert not run.result.exists()
        seen |= metrics_of(run)
        newest = run if newest_checkpoint(run) else newest
    assert newest is not None
    last = runs.finish(config, device=device, resume_from=newest_checkpoint(newest), **known)
    begun = manifest_of(newest, min(metrics_of(last)) - 1).step
    assert_repeats(last, reference, after=begun)
    assert seen | metrics_of(last) == metrics_of(reference)


def test_a_training_killed_at_ten_random_steps_equals_an_undisturbed_one(runs, device):
    config = _made(steps=40, enable_ema=True, gradient_max_norm=0.5, sections={"learning_rate": WARM_UP})
    _killed_ten_times(runs, config, device, steps=40, every=3)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_any_training_killed_at_ten_random_steps_equals_an_undisturbed_one(runs, device, case):
    config = {**CASES[case], "training": {**CASES[case]["training"], "numb_steps": 40}}
    _killed_ten_times(runs, config, device, steps=40, every=3)


# --- pause and resume -------------------------------------------------------------------------------------------------


def test_a_paused_training_goes_on_as_if_it_had_not_been(runs, device):
    """Two pauses, neither at a step that has a checkpoint anyway."""
    config = CASES["se_e2_a, EMA, warm-up, clipping"]
    reference, paused = runs.train(config, device=device), None
    for step in (3, 6):
        paused, _ = _disturbed(runs, config, device, "paused", {"step": step}, paused, artifacts_from=reference)
        result = Result.model_validate_json(paused.result.read_bytes())
        assert (result.outcome, result.step) == ("stopped", step)
    rest = runs.train(config, device=device, resume_from=newest_checkpoint(paused))
    assert_repeats(rest, reference, after=6)
