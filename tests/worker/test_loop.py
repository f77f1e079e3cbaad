"""The loop, driven by an engine that is one random walk: when it validates, saves and stops."""

import json
import math

import pytest
import torch

from worker import checkpoint, rng
from worker.context import RunContext
from worker.failures import TrainingFailure
from worker.loop import Progress, StopSwitch, run
from worker.rundir import RunDir


class Walk:
    """An engine whose weight is the sum of its random steps; loss and weight can be told to go bad."""

    def __init__(self, total_steps, checkpoint_every=0, validate_every=0):
        self.total_steps, self.checkpoint_every, self.validate_every = total_steps, checkpoint_every, validate_every
        self.weight = torch.zeros(1)
        self.before_step = {}
        self.loss_of = {}

    def train_step(self, step):
        self.before_step.get(step, lambda: None)()
        self.weight += torch.rand(1)
        return {"train/loss": self.loss_of.get(step, 1.0 / step), "lr": 0.1}

    def validate(self, step):
        return {"val/rmse": float(step)}

    def non_finite_weight(self):
        return checkpoint.first_non_finite({"weight": self.weight})

    def save(self, directory, step, others=()):
        torch.save({"weight": self.weight, "step": step}, directory / "walk.pt")
        return {"walk.pt": "checkpoint"}

    def restore(self, directory):
        saved = torch.load(directory / "walk.pt", weights_only=True)
        self.weight = saved["weight"]
        return saved["step"]

    def fingerprint(self):
        return checkpoint.fingerprint({"weight": self.weight})

    def generators(self, step):
        return {"walk": str(step)}


@pytest.fixture
def directory(tmp_path):
    found = RunDir(tmp_path / "run")
    found.create()
    return found


def _run(walk, directory, *, step=0):
    progress = Progress(step=step, saved=step)
    return run(walk, RunContext(directory), directory, StopSwitch(directory.stop), progress)


def _saved(directory):
    return sorted(json.loads(path.read_text())["step"] for path in directory.checkpoints.glob("*/manifest.json"))


def test_checkpoints_come_at_their_cadence_and_at_the_end(directory):
    result = _run(Walk(7, checkpoint_every=3), directory)
    assert (result.outcome, result.step) == ("completed", 7)
    assert _saved(directory) == [3, 6, 7]


def test_the_last_checkpoint_is_not_written_twice(directory):
    _run(Walk(6, checkpoint_every=3), directory)
    assert _saved(directory) == [3, 6]


def test_a_finished_checkpoint_is_only_confirmed(directory):
    result = _run(Walk(5), directory, step=5)
    assert (result.outcome, result.step) == ("completed", 5)
    assert _saved(directory) == []


@pytest.mark.parametrize(("word", "saved"), [("checkpoint", [3]), ("now", [])])
def test_the_stop_file_ends_between_two_steps(directory, word, saved):
    walk = Walk(100)
    walk.before_step[3] = lambda: directory.stop.write_text(word)
    result = _run(walk, directory)
    assert (result.outcome, result.step) == ("stopped", 3)
    assert _saved(directory) == saved


def test_a_signal_stops_like_the_file(directory):
    walk, stop = Walk(100), StopSwitch(directory.stop)
    walk.before_step[2] = stop.signal
    result = run(walk, RunContext(directory), directory, stop, Progress(step=0, saved=0))
    assert (result.outcome, result.step) == ("stopped", 2)
    assert _saved(directory) == [2]


def test_weights_that_are_not_finite_are_never_saved(directory):
    walk = Walk(10, checkpoint_every=2)
    walk.before_step[4] = lambda: walk.weight.fill_(math.nan)
    with pytest.raises(TrainingFailure) as failure:
        _run(walk, directory)
    assert failure.value.cause.failure == "non-finite"
    assert failure.value.cause.step == 4
    assert "weight" in failure.value.cause.message
    assert _saved(directory) == [2]


def test_a_bad_loss_on_the_device_is_found_before_the_checkpoint(directory):
    walk = Walk(10, checkpoint_every=4)
    walk.loss_of = {step: torch.tensor(math.nan) for step in (3, 4)}
    with pytest.raises(Exception, match="step 3") as failure:
        _run(walk, directory)
    assert failure.value.step == 3
    assert _saved(directory) == []


def test_metrics_survive_a_step_that_raises(directory):
    walk = Walk(10)

    def fail():
        raise RuntimeError("broken")

    walk.before_step[3] = fail
    with pytest.raises(RuntimeError, match="broken"):
        _run(walk, directory)
    assert list(directory.metrics.glob("*.arrow"))


def test_a_save_that_fails_leaves_no_checkpoint(directory):
    walk = Walk(3)

    def save(path, step, others):
        (path / "walk.pt").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    walk.save = save
    with pytest.raises(OSError, match="No space"):
        _run(walk, directory)
    assert list(directory.checkpoints.iterdir()) == []


def test_the_manifest_tells_what_is_on_disk(directory):
    import hashlib

    _run(Walk(2), directory)
    manifest = json.loads((directory.checkpoints / "step-2" / "manifest.json").read_text())
    content = (directory.checkpoints / "step-2" / "walk.pt").read_bytes()
    assert manifest["files"]["walk.pt"] == {
        "role": "checkpoint",
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content).hexdigest(),
        "size": len(content),
    }
    assert manifest["metrics"]["train/loss"] == 0.5
    assert manifest["generators"] == {**rng.digests(rng.get_state()), "walk": "2"}


def test_status_ends_at_the_last_step_with_a_rate(directory):
    _run(Walk(50), directory)
    status = json.loads(directory.status.read_text())
    assert (status["phase"], status["step"]) == ("training", 50)
    assert status["steps_per_s"] > 0
