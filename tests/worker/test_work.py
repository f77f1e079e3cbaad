"""The loop of jobs that train nothing, driven by one that counts: its steps, its stops, and what it goes on from."""

import hashlib
import json
from pathlib import Path

import pytest

from worker import work as loop
from worker.context import RunContext
from worker.loop import Progress, StopSwitch
from worker.rundir import RunDir
from worker.work import work


@pytest.fixture
def directory(tmp_path):
    found = RunDir(tmp_path / "run")
    found.create()
    return found


class Count:
    """A job that trains nothing: it counts, and publishes what it counted."""

    phase = "counting"

    def __init__(self, outlet, total_steps):
        self.outlet, self.total_steps = outlet, total_steps
        self.before_step = {}

    def steps(self):
        for step in range(1, self.total_steps + 1):
            self.before_step.get(step, lambda: None)()
            yield {"count/value": float(step)}
        path = self.outlet.root / "count.out"
        path.write_text("counted")
        self.outlet.publish(path)


class Saving(Count):
    """One that goes on from the last number that could be divided by some other."""

    def __init__(self, outlet, total_steps, unit=1):
        super().__init__(outlet, total_steps)
        self.counted, self.unit, self.full = 0, unit, ()

    def steps(self):
        for row in super().steps():
            if row["count/value"] > self.counted:
                self.counted = int(row["count/value"])
                yield row

    @property
    def returns_to(self):
        return self.counted // self.unit * self.unit

    def save(self, directory):
        target = Path("/dev/full") if self.returns_to in self.full else directory / "count.json"
        target.write_text(str(self.returns_to))
        return {"count.json": "state"}

    def restore(self, directory):
        self.counted = int((directory / "count.json").read_text())
        return self.counted

    def fingerprint(self):
        return hashlib.sha256(str(self.returns_to).encode()).hexdigest()

    def leave(self):
        if self.counted in self.full:
            Path("/dev/full").write_text("so far")
        path = self.outlet.root / "count.out"
        path.write_text(f"counted to {self.counted}")
        self.outlet.publish(path)


def _work(count, directory, step=0):
    progress = Progress(step=step, saved=step)
    return work(count, count.outlet, directory, StopSwitch(directory.stop), progress), progress


def test_other_work_ends_with_its_file(directory):
    result, _ = _work(Count(RunContext(directory), 5), directory)
    assert (result.outcome, result.step) == ("completed", 5)
    assert [path.name for path in directory.files.iterdir()] == ["count.out"]
    assert json.loads(directory.status.read_text())["step"] == 5
    assert list(directory.checkpoints.iterdir()) == []


def test_other_work_stops_between_two_steps_and_keeps_its_metrics(directory):
    count = Count(RunContext(directory), 5)
    count.before_step[3] = lambda: directory.stop.write_text("now")
    result, _ = _work(count, directory)
    assert (result.outcome, result.step) == ("stopped", 3)
    assert list(directory.files.iterdir()) == []
    assert sum(1 for _ in directory.metrics.glob("*.arrow")) > 0


def test_other_work_that_fails_names_its_step(directory):
    count = Count(RunContext(directory), 5)
    count.before_step[3] = lambda: 1 / 0
    progress = Progress(step=0, saved=0)
    with pytest.raises(ZeroDivisionError):
        work(count, count.outlet, directory, StopSwitch(directory.stop), progress)
    assert progress.step == 2


def _saved(directory):
    return sorted(json.loads(path.read_text())["step"] for path in directory.checkpoints.glob("*/manifest.json"))


def test_what_can_go_on_is_saved_now_and_then(directory, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(loop, "SAVE_SHARE", 1e9)
    result, progress = _work(Saving(RunContext(directory), 9, unit=3), directory)
    assert (result.outcome, result.step, progress.saved) == ("completed", 9, 9)
    assert _saved(directory) == [3, 6, 9], "once each, although there was time at every step"


@pytest.mark.parametrize(("word", "saved"), [("checkpoint", [2]), ("now", [])])
def test_what_can_go_on_is_saved_when_it_is_stopped(directory, word, saved):
    count = Saving(RunContext(directory), 5, unit=2)
    count.before_step[3] = lambda: directory.stop.write_text(word)
    result, _ = _work(count, directory)
    assert (result.outcome, result.step) == ("stopped", 3)
    assert _saved(directory) == saved
    assert [path.read_text() for path in directory.files.iterdir()] == (["counted to 3"] if saved else [])


def test_what_there_is_so_far_may_find_no_room(directory):
    count = Saving(RunContext(directory), 5, unit=2)
    count.full = (3,)
    count.before_step[3] = lambda: directory.stop.write_text("checkpoint")
    result, _ = _work(count, directory)
    assert (result.outcome, _saved(directory), list(directory.files.iterdir())) == ("stopped", [2], [])


def test_it_goes_on_after_the_step_that_was_saved(directory):
    count = Saving(RunContext(directory), 5)
    count.restore(_with(directory.resume, "3"))
    done = []
    count.before_step = {step: lambda step=step: done.append((step, count.counted)) for step in range(1, 6)}
    result, progress = _work(count, directory, step=3)
    assert (result.outcome, result.step, progress.saved) == ("completed", 5, 3)
    assert done[-2:] == [(4, 3), (5, 4)]


def _with(directory, text):
    (directory / "count.json").write_text(text)
    return directory


def test_a_checkpoint_without_room_costs_no_step(directory, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(loop, "SAVE_SHARE", 1e9)
    count = Saving(RunContext(directory), 3)
    count.full = (2,)
    result, _ = _work(count, directory)
    assert (result.outcome, _saved(directory)) == ("completed", [1, 3])
    assert "the job goes on, the last good one is of step 1" in directory.events.read_text()
