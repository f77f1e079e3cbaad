"""A full disk at the worker: the training goes on from memory, and the last good checkpoint stays."""

import json
import math
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from tests.worker.test_loop import Walk
from worker.context import RunContext
from worker.failures import cause_of
from worker.loop import Progress, StopSwitch, run
from worker.rundir import RunDir


class Crowded(Walk):
    """Its checkpoints of some steps go to a disk without room."""

    def __init__(self, *arguments, full=(), **options):
        super().__init__(*arguments, **options)
        self.full = full

    def save(self, directory, step, others=()):
        if step in self.full:
            with Path("/dev/full").open("wb") as file:
                torch.save({"weight": torch.zeros(100_000)}, file)
        return super().save(directory, step, others)


@pytest.fixture
def directory(tmp_path):
    found = RunDir(tmp_path / "run")
    found.create()
    return found


def _take_the_room_for(directory, number):
    """Let a batch of metrics meet a disk without room until the returned path is unlinked."""
    path = directory.metrics / f".{number:06d}.arrow.tmp"
    path.symlink_to("/dev/full")
    return path


def _reported(directory):
    found = []
    for path in sorted(directory.metrics.glob("[!.]*.arrow")):
        with pa.OSFile(str(path)) as file:
            found += pa.ipc.open_stream(file).read_all()["step"].to_pylist()
    return found


def _saved(directory):
    return sorted(json.loads(path.read_text())["step"] for path in directory.checkpoints.glob("*/manifest.json"))


def test_a_checkpoint_without_room_is_left_out_and_the_next_one_fits(directory):
    walk = Crowded(8, checkpoint_every=2, full=(4, 6))
    result = run(walk, RunContext(directory), directory, StopSwitch(directory.stop), Progress(step=0, saved=0))
    assert (result.outcome, result.step) == ("completed", 8)
    assert _saved(directory) == [2, 8]
    said = [json.loads(line)["message"] for line in directory.events.read_text().splitlines()]
    assert len(said) == 2
    assert "No space for the checkpoint of step 6: the job goes on, the last good one is of step 2" in said[1]
    assert not [path for path in directory.checkpoints.iterdir() if path.name.startswith(".")]
    assert math.isfinite(walk.weight.item())


def test_a_last_checkpoint_without_room_is_a_full_disk_and_no_fault_of_the_library(directory):
    walk = Crowded(4, checkpoint_every=2, full=(4,))
    with pytest.raises(OSError, match="No space left") as error:
        run(walk, RunContext(directory), directory, StopSwitch(directory.stop), Progress(step=0, saved=0))
    assert cause_of(error.value, "training", 4).failure == "disk-full"
    assert _saved(directory) == [2]


def test_metrics_without_room_wait_in_memory_and_no_checkpoint_comes_before_them(directory):
    walk = Crowded(8, checkpoint_every=2)
    full = _take_the_room_for(directory, 1)
    walk.before_step[7] = full.unlink
    result = run(walk, RunContext(directory), directory, StopSwitch(directory.stop), Progress(step=0, saved=0))
    assert (result.outcome, result.step) == ("completed", 8)
    assert _reported(directory) == [*range(1, 9)]
    assert _saved(directory) == [8]


def test_metrics_that_find_no_room_until_the_end_are_a_full_disk(directory):
    _take_the_room_for(directory, 0)
    with pytest.raises(OSError, match="No space left") as error:
        run(Crowded(4), RunContext(directory), directory, StopSwitch(directory.stop), Progress(step=0, saved=0))
    assert cause_of(error.value, "training", 4).failure == "disk-full"
