"""Trainings of several ranks: what they compute, that they repeat and resume bit for bit, and how they end."""

import json
import os
import signal
import time

import psutil
import pytest
import torch

from tests.worker.engines.deepmd.deepmd_runs import make_config, make_multi_task_config
from tests.worker.engines.runs import (
    assert_repeats,
    checkpoint_of,
    events_of,
    manifest_of,
    metrics_of,
    newest_checkpoint,
)
from worker.engines.deepmd import errands
from worker.rundir import Result

pytestmark = pytest.mark.deepmd

TWO = {"ranks": 2}


def result_of(run):
    return Result.model_validate_json(run.result.read_bytes())


def disturbed(runs, how, *, rank=1, **options):
    """Train in two ranks until something happens to one at step 6; return the run and its process, both at their end."""
    run = runs.make(make_config(), **TWO, **options)
    (run.root / "accident.json").write_text(json.dumps({"rank": rank, "step": 6, "how": how}))
    process = runs.start(run, entry="tests.worker.engines.deepmd.rank_accidents:main")
    assert process.wait(120), run.log.read_text()
    return run, process


def resumed(runs, run, reference):
    """Go on from the newest checkpoint of a run that was disturbed, and return the rest."""
    return runs.finish(make_config(), resume_from=newest_checkpoint(run), artifacts_from=reference, **TWO)


@pytest.fixture(scope="session")
def pair(session_runs):
    """One uninterrupted training of two ranks, 8 steps with checkpoints after 4 and 8."""
    return session_runs.finish(make_config(), **TWO)


def test_a_step_is_the_mean_over_one_batch_for_each_rank(runs, straight, pair):
    """The first step of two ranks takes what are the first two batches of one."""
    [one, two], [both] = (
        [metrics_of(run)[step] for step in steps] for run, steps in ((straight, (1, 2)), (pair, (1,)))
    )
    assert both["lr"] == one["lr"]
    assert both["train/loss"] != one["train/loss"]
    frozen = runs.train({**make_config(), "learning_rate": {"type": "exp", "start_lr": 1e-30, "stop_lr": 1e-31}})
    [first, second] = (metrics_of(frozen)[step] for step in (1, 2))
    for key in ("train/rmse_e", "train/rmse_f"):
        assert both[key] == pytest.approx((first[key] + second[key]) / 2, rel=1e-12)
    assert two.keys() == {key for key in both if not key.startswith("val/")}


def test_one_rank_speaks_for_all(pair):
    environment = json.loads(pair.environment.read_text())
    assert environment["ranks"] == {"count": 2, "backend": "gloo"}
    assert sorted(metrics_of(pair)) == list(range(1, 9))
    assert [len(events_of(pair, kind)) for kind in ("audit", "statistics", "fingerprint")] == [1, 1, 1]
    lines = pair.log.read_text().splitlines()
    assert any(line.startswith("[rank 1] ") and "phase: model" in line for line in lines)
    assert {"torch", "torch of rank 1"} <= manifest_of(pair, 8).generators.keys()
    assert checkpoint_of(pair, 8)["cairn"]["ranks"]["count"] == 2
    [file] = newest_checkpoint(pair).glob("*.pt")
    assert errands.inspect(file, file.name).ranks == 2


def test_a_rank_that_is_killed_ends_all_and_the_rest_is_the_same_training(runs, pair):
    run, process = disturbed(runs, "killed", artifacts_from=pair)
    result = result_of(run)
    assert (result.outcome, result.cause.failure, process.exit_code) == ("interrupted", "killed", 0)
    assert result.cause.message.startswith("Rank 1 of 2 was killed by SIGKILL after step ")
    assert_repeats(resumed(runs, run, pair), pair, after=4)


@pytest.mark.parametrize(
    ("how", "rank", "failure", "words"),
    [
        ("failed", 1, "out-of-memory", "rank 1 of 2: Out of memory in phase training. "),
        ("failed", 0, "out-of-memory", "rank 0 of 2: Out of memory in phase training. "),
        ("crashed", 1, "library", "Rank 1 of 2 crashed with SIGSEGV after step "),
        ("drifted", 1, "library", "rank 0 of 2: After step 8 the ranks do not have the same weights: rank 0 "),
    ],
)
def test_what_goes_wrong_in_one_rank_is_what_went_wrong(runs, pair, how, rank, failure, words):
    run, _ = disturbed(runs, how, rank=rank, artifacts_from=pair)
    result = result_of(run)
    assert (result.outcome, result.cause.failure) == ("failed", failure)
    assert result.cause.message.startswith(words)


def test_all_ranks_stop_after_the_same_step(runs, pair):
    run, _ = disturbed(runs, "asked to stop", artifacts_from=pair)
    result = result_of(run)
    assert result.outcome == "stopped"
    assert 5 <= result.step < 8
    assert newest_checkpoint(run).name == f"step-{result.step}"
    assert_repeats(resumed(runs, run, pair), pair, after=result.step)


def test_no_rank_outlives_the_process_that_started_it(runs, pair):
    run, process = disturbed(runs, "launcher killed", artifacts_from=pair)
    assert process.exit_code == -signal.SIGKILL
    assert not run.result.exists()
    deadline = time.monotonic() + 20
    while any(_session(pid) == process.pid for pid in psutil.pids()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _session(pid):
    try:
        return os.getsid(pid) if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else None
    except (ProcessLookupError, psutil.NoSuchProcess):
        return None


def test_another_number_of_ranks_does_not_go_on(runs, pair, straight):
    for count, saved, words in (
        (1, pair, "written by 2 ranks, and this job has 1."),
        (2, straight, "written by 1 ranks, and this job has 2."),
    ):
        run = runs.make(make_config(), resume_from=saved.checkpoints / "step-4", ranks=count)
        assert runs.start(run).wait(120)
        cause = result_of(run).cause
        assert (cause.failure, "start mode init" in cause.hint) == ("configuration", True)
        assert cause.message.endswith(words)


def test_ranks_may_take_batches_of_different_tasks(runs):
    """Then no rank has gradients of all parts, nor measures the same."""
    config = make_multi_task_config(steps=6)
    whole = runs.finish(config, checkpoints={"every_steps": 3}, **TWO)
    tasks = [
        {key.split("/")[-1] for key in row if key.startswith("train/rmse_e")} for row in metrics_of(whole).values()
    ]
    assert {"alloy", "metal"} in tasks
    assert len(tasks) == 6
    options = {"checkpoints": {"every_steps": 3}, "artifacts_from": whole, **TWO}
    rest = runs.finish(config, resume_from=whole.checkpoints / "step-3", **options)
    assert_repeats(rest, whole, after=3)


@pytest.mark.gpu
def test_two_gpus_train_together_and_resume_with_the_same_bits(runs):
    if torch.cuda.device_count() < 2:
        pytest.skip("this machine has fewer than two GPUs: what NCCL sums is not shown here")
    whole = runs.finish(make_config(), device="cuda", **TWO)
    assert json.loads(whole.environment.read_text())["ranks"] == {"count": 2, "backend": "nccl"}
    rest = runs.finish(
        make_config(), device="cuda", resume_from=whole.checkpoints / "step-4", artifacts_from=whole, **TWO
    )
    assert_repeats(rest, whole, after=4)
