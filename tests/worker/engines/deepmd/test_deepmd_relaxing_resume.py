"""An interrupted relaxation is the same relaxation: it goes on from its last frame with the same bits."""

import importlib
import shutil
import threading

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from app.engines import registry
from app.engines.deepmd.relaxing import DEFAULTS
from app.wire.relaxing import RelaxReport
from tests.worker.engines.runs import events_of, metrics_of, newest_checkpoint
from worker.engines.deepmd import record
from worker.loop import StopSwitch
from worker.rundir import Result

pytestmark = [
    pytest.mark.deepmd,
    pytest.mark.filterwarnings("ignore:`torch.jit"),  # DeePMD-kit's own way to freeze and to run what it froze
]


def copper(name="cell", **changes):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.12, seed=3)
    return {
        "name": name, "symbols": list(atoms.symbols), "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(), **changes,
    }  # fmt: skip


class StopAfter(StopSwitch):
    """Asks for a checkpoint and an end after some steps of this execution."""

    def __init__(self, file, steps):
        super().__init__(file)
        self._left = steps

    def wanted(self):
        self._left -= 1
        return "checkpoint" if self._left < 0 else None


@pytest.fixture(scope="module")
def relax(task, checkpoints):
    """Relax copper; return the run directory. `cut`: stop after so many steps."""

    def relax(*structures, cut=None, resume_from=None, **options):
        switch = StopSwitch if cut is None else lambda file: StopAfter(file, cut)
        given = _given(structures, options)
        result, run = task("relax", checkpoints[1:], 0, switch=switch, resume_from=resume_from, **given)
        assert result.outcome == ("completed" if cut is None else "stopped"), result
        return run

    return relax


def _given(structures, options):
    config = {**DEFAULTS, "structures": [], "inline": list(structures), **options}
    return {"config": config, "seeds": {"starts": 5} if config["starts"] > 1 else {}}


def _report(run):
    return RelaxReport.model_validate_json((run.files / "relax.json").read_text())


def _bits(run):
    return {step: {key: value.hex() for key, value in row.items()} for step, row in metrics_of(run).items()}


def _assert_same(whole, *parts):
    """Compare all that is told, every frame's digest and every metric included, with executions one after the other."""
    assert _report(parts[-1]) == _report(whole)
    together = [_bits(part) for part in parts]
    assert {step: row for part in together for step, row in part.items()} == _bits(whole)
    assert sum(map(len, together)) == len(_bits(whole)), "no step was done twice"
    trajectories = {(part.files / "trajectory.traj").read_bytes() for part in (whole, parts[-1])}
    assert len(trajectories) == 1


CASES = {
    "LBFGS, a fixed atom": {"optimizer": "LBFGS", "max_steps": 12},
    "BFGS, the cell": {"optimizer": "BFGS", "cell": "filter", "pressure": 1.0, "max_steps": 9},
    "FIRE, the cell": {"optimizer": "FIRE", "cell": "filter", "max_steps": 14},
    "FIRE, a fixed atom": {"optimizer": "FIRE", "max_steps": 14},
}


@pytest.mark.parametrize("case", CASES)
def test_it_goes_on_in_another_process_with_the_same_bits(relax, task_run, checkpoints, forkserver_once, case):
    structure, options = copper(fixed=[0]), {**CASES[case], "fmax": 1e-4}
    whole = relax(structure, **options)
    part = relax(structure, cut=8, **options)
    assert newest_checkpoint(part).name == "step-8"
    rest = task_run("relax", checkpoints[1:], 0, resume_from=newest_checkpoint(part), **_given([structure], options))
    process = forkserver_once().spawn("worker.trainer:main", rest.root, {}, threading.Event())
    assert process.wait(120), rest.log.read_text()
    assert Result.model_validate_json(rest.result.read_bytes()).outcome == "completed", rest.log.read_text()
    _assert_same(whole, part, rest)
    [told] = events_of(rest, "retraced")
    assert told["data"] == {"run": "cell", "frames": 8}


def test_it_goes_on_in_the_middle_of_the_second_structures_second_start(relax, monkeypatch):
    monkeypatch.setattr(record, "FULL_BYTES", 3000)
    structures, options = [copper("a"), copper("b", fixed=[1])], {"starts": 2, "max_steps": 7, "fmax": 1e-4}
    whole = relax(*structures, **options)
    last = _report(whole).runs[-1]
    assert (last.name, last.first_frame, last.frames) == ("b.2", 24, 8)
    early = relax(*structures, cut=12, **options)
    late = relax(*structures, cut=16, resume_from=newest_checkpoint(early), **options)
    assert newest_checkpoint(late).name == "step-27", "one look went to the run that had ended"
    left = [(one.name, one.outcome, one.first_frame, one.frames) for one in _report(late).runs]
    assert left == [
        ("a.1", "not-converged", 0, 8),
        ("a.2", "not-converged", 8, 8),
        ("b.1", "not-converged", 16, 8),
        ("b.2", "stopped", 24, 3),
    ]
    assert len(ase.io.read(late.files / "trajectory.traj", ":")) == 27, "what was cancelled can be looked at"
    rest = relax(*structures, resume_from=newest_checkpoint(late), **options)
    _assert_same(whole, early, late, rest)
    told = [[one["data"]["run"] for one in events_of(run, "relaxed")] for run in (early, late, rest)]
    assert told == [["a.1"], ["a.2", "b.1"], ["b.2"]]
    first, second = (newest_checkpoint(run) / "frames-00000.npz" for run in (early, late))
    assert first.stat().st_ino == second.stat().st_ino, "what is full is not written again"


def test_a_repetition_that_was_interrupted_is_done_again_from_its_beginning(relax):
    options = {"max_steps": 2, "fmax": 1e-4, "repeat": 5}
    part = relax(copper(), cut=8, **options)
    assert newest_checkpoint(part).name == "step-6", "three frames, done twice; of the third time there are two"
    rest = relax(copper(), cut=5, resume_from=newest_checkpoint(part), **options)
    assert sorted(metrics_of(rest)) == [7, 8, 9, 10]
    assert newest_checkpoint(rest).name == "step-9"
    repeats = record.State.load(newest_checkpoint(rest) / record.STATE).repeats
    assert [one.how.rpartition(", ")[2] for one in repeats] == ["time 2", "time 3"]
    assert all(one.identical and one.frames == 3 for one in repeats)
    assert [one["data"]["how"] for one in events_of(rest, "repeated")] == [repeats[1].how]


@pytest.fixture(scope="module")
def stopped(relax):
    """A checkpoint of five frames."""
    return newest_checkpoint(relax(copper(), cut=5, max_steps=8))


def _altered(stopped, place, change):
    """Return a copy of a checkpoint whose frames are other ones."""
    shutil.copytree(stopped, place)
    with np.load(place / "frames-00000.npz") as held:
        arrays = dict(held)
    change(arrays)
    np.savez(place / "frames-00000.npz", **arrays)
    return place


def test_a_state_that_is_not_of_this_relaxation_is_noticed(task, checkpoints, stopped, tmp_path):
    def move(arrays):
        arrays["0.positions"][3, 1, 0] += 0.01

    given = _given([copper()], {"max_steps": 8})
    result, _ = task("relax", checkpoints[1:], 0, resume_from=_altered(stopped, tmp_path / "moved", move), **given)
    assert (result.outcome, result.cause.failure) == ("failed", "data")
    assert "What was kept of cell is not this relaxation: frame 3 lies 1.0e-02 Å from" in result.cause.message

    def drop(arrays):
        arrays.update({name: array[:-1] for name, array in arrays.items()})

    result, _ = task("relax", checkpoints[1:], 0, resume_from=_altered(stopped, tmp_path / "short", drop), **given)
    assert (result.cause.failure, result.cause.message) == ("data", "The checkpoint holds 4 frames, not 5.")


def test_a_machine_that_computes_otherwise_goes_on_and_says_so(relax, stopped, tmp_path):
    def round_otherwise(arrays):
        arrays["0.positions"][2:] *= 1 + 1e-13

    run = relax(copper(), resume_from=_altered(stopped, tmp_path / "other", round_otherwise), max_steps=8)
    [told] = events_of(run, "inexact")
    assert "goes on from its 5 frames, but not bit for bit" in told["message"]
    assert (_report(run).runs[0].frames, events_of(run, "retraced")) == (9, [])


def test_what_is_said_of_each_kind_of_job_is_so():
    for task in (task for engine in registry.ENGINES for task in engine.tasks.values()):
        module, _, name = task.worker.partition(":")
        assert hasattr(getattr(importlib.import_module(module), name), "restore") == task.resumes, task.title
