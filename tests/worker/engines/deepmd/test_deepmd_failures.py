"""A training that cannot go on says why, in the class that decides what happens next."""

import shutil

import numpy as np
import pytest
import torch

from tests.worker.engines.deepmd.deepmd_runs import make_config
from tests.worker.engines.runs import manifest_of, metrics_of
from worker.loop import StopSwitch
from worker.rundir import RunDir
from worker.trainer import train

pytestmark = pytest.mark.deepmd


def _train(run: RunDir):
    return train(run, StopSwitch(run.stop))


def test_a_diverging_training_names_its_step_and_keeps_the_last_good_checkpoint(runs):
    config = make_config(steps=40)
    config["learning_rate"] = {"type": "exp", "start_lr": 1e160, "stop_lr": 1e159, "decay_steps": 5}
    run = runs.make(config, checkpoints={"every_steps": 1})
    result = _train(run)
    assert result.outcome == "failed"
    assert result.cause.failure == "non-finite"
    assert result.cause.step == result.step
    good = sorted(int(path.parent.name.removeprefix("step-")) for path in run.checkpoints.glob("step-*/manifest.json"))
    assert good == list(range(1, result.step))
    assert max(metrics_of(run)) == result.step


def test_a_non_finite_label_is_not_learned(runs, tmp_path):
    run = runs.make(make_config(steps=40))
    bad = tmp_path / "data"
    shutil.copytree(run.data.resolve(), bad)
    run.data.unlink()
    run.data.symlink_to(bad)
    forces = np.load(bad / "cu@1/large/set.000/force.npy")
    forces[3, 0] = np.nan
    np.save(bad / "cu@1/large/set.000/force.npy", forces)
    result = _train(run)
    assert result.cause.failure == "non-finite"
    assert result.step == result.cause.step
    assert "learning rate" in result.cause.hint


def test_missing_data_is_named(runs):
    config = make_config()
    config["training"]["training_data"]["systems"] = ["dataset:cu@1/absent"]
    cause = _train(runs.make(config)).cause
    assert cause.failure == "data"
    assert "dataset:cu@1/absent" in cause.message


def test_an_element_outside_the_type_map_is_a_data_failure(runs):
    config = make_config()
    config["model"]["type_map"] = ["Cu", "Ag"]
    cause = _train(runs.make(config)).cause
    assert cause.failure == "data"
    assert cause.detail


def test_a_config_that_deepmd_refuses_is_a_configuration_failure(runs):
    config = make_config()
    config["model"]["descriptor"]["neurons"] = [4]
    cause = _train(runs.make(config)).cause
    assert cause.failure == "configuration"
    assert "neurons" in cause.message


def test_overlapping_atoms_are_a_data_failure(runs, tmp_path):
    run = runs.make(make_config())
    bad = tmp_path / "data"
    shutil.copytree(run.data.resolve(), bad)
    run.data.unlink()
    run.data.symlink_to(bad)
    path = bad / "cu@1/small/set.000/coord.npy"
    positions = np.load(path)
    positions[2, 3:6] = positions[2, 0:3]
    np.save(path, positions)
    cause = _train(run).cause
    assert cause.failure == "data"
    assert "overlapping" in cause.message


def test_running_out_of_memory_names_the_batch(runs, monkeypatch):
    def greedy(*_, **__):
        return torch.empty(1 << 60, dtype=torch.uint8)

    monkeypatch.setattr("deepmd.pt.train.wrapper.ModelWrapper.forward", greedy)
    cause = _train(runs.make(make_config())).cause
    assert cause.failure == "out-of-memory"
    assert "frames × " in cause.message
    assert "1152921504606846976 bytes" in cause.message
    assert "batch_size" in cause.hint


def test_a_checkpoint_of_another_data_order_is_refused(runs, straight):
    run = runs.make(make_config(), resume_from=straight.checkpoints / "step-4", seeds={"data.order": 5})
    cause = _train(run).cause
    assert cause.failure == "configuration"
    assert "order" in cause.message


def test_a_damaged_checkpoint_is_not_continued(runs, straight, tmp_path):
    damaged = tmp_path / "step-4"
    shutil.copytree(straight.checkpoints / "step-4", damaged)
    [path] = damaged.glob("*.pt")
    path.write_bytes(path.read_bytes()[:-2000])
    result = _train(runs.make(make_config(), resume_from=damaged))
    assert result.outcome == "failed"
    assert manifest_of(straight, 4).files[path.name]["size"] != path.stat().st_size
