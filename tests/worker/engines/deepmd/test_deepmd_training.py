"""One training: what it reports, where its numbers come from, how it is stopped."""

import json
import math
import time

import numpy as np
import pytest

from tests.worker.engines import accidents
from tests.worker.engines.deepmd.deepmd_runs import make_config, make_multi_task_config
from tests.worker.engines.runs import (
    Quiet,
    assert_repeats,
    assert_same,
    checkpoint_of,
    events_of,
    manifest_of,
    metrics_of,
)
from worker.engines.deepmd import config as configs
from worker.engines.deepmd import trainer as engine_trainer
from worker.loop import StopSwitch
from worker.trainer import train

pytestmark = pytest.mark.deepmd

WARM_UP = {"type": "cosine", "start_lr": 0.001, "stop_lr": 1e-5, "warmup_steps": 5, "warmup_start_factor": 0.1}
ADAMUON, HYBRID_MUON = {"type": "AdaMuon"}, {"type": "HybridMuon", "enable_gram": False, "magma_muon": True}


def _with(config, **sections):
    return {**config, **sections}


def test_another_order_seed_is_another_training_with_the_same_weights_at_the_start(runs, straight):
    run = runs.train(make_config(), seeds={"data.order": 99})
    [event] = events_of(straight, "fingerprint")
    assert (event["data"]["step"], event["data"]["stage"]) == (0, "init")
    assert events_of(run, "fingerprint") == [event]
    assert manifest_of(run, 8).fingerprint != manifest_of(straight, 8).fingerprint
    assert _differing_generators(manifest_of(run, 8), manifest_of(straight, 8)) == {"data order"}


def test_a_checkpoint_tells_the_state_of_every_generator(runs, straight):
    first, last = manifest_of(straight, 4), manifest_of(straight, 8)
    assert first.generators.keys() >= {"python", "numpy", "torch", "dp_random", "data order"}
    assert _differing_generators(first, last) == {"data order"}, "DeePMD-kit's steps draw from no generator"
    other = runs.train(make_config(), seeds={"training": 99})
    assert _differing_generators(manifest_of(other, 8), last) >= {"python", "numpy", "torch", "dp_random"}


def _differing_generators(left, right):
    assert left.generators.keys() == right.generators.keys()
    return {name for name, digest in left.generators.items() if right.generators[name] != digest}


@pytest.mark.parametrize("make", [make_config, make_multi_task_config])
def test_statistics_are_computed_once_and_loaded_with_the_same_bits(runs, straight, monkeypatch, make):
    first = straight if make is make_config else runs.train(make())
    second = runs.make(make(), artifacts_from=first)
    accidents.stir()

    def never(*_, **__):
        raise AssertionError("statistics were computed again")

    with monkeypatch.context() as patch:
        patch.setattr("deepmd.pt.train.training.make_stat_input", never)
        patch.setattr("deepmd.pt.utils.neighbor_stat.NeighborStat.get_stat", never)
        assert train(second, StopSwitch(second.stop)).outcome == "completed"
    assert not list(second.artifacts_out.iterdir())
    assert events_of(first, "statistics")[0]["data"]["source"] == "computed"
    assert events_of(second, "statistics")[0]["data"]["source"] == "loaded"
    assert_repeats(second, first)


def test_sel_auto_is_resolved_as_deepmd_does_and_said(straight):
    [event] = events_of(straight, "derived")
    section = json.loads(checkpoint_of(straight, 8)["cairn"]["model"])
    assert event["data"]["values"] == {"/model/descriptor/sel": section["descriptor"]["sel"]}
    assert all(isinstance(count, int) and count % 4 == 0 for count in section["descriptor"]["sel"])


def test_frames_with_atoms_too_close_are_left_out(runs):
    config = make_config(steps=1)
    run = runs.make(config)
    paths = configs.load(run.read_spec(), run.data).data("Default")["training_data"]
    config["training"]["training_data"]["min_pair_dist"] = limit = _median_of_closest_pairs(paths["systems"][0])
    trainer = engine_trainer.DeepmdTrainer(runs.make(config).read_spec(), Quiet(run.root))
    seen = set()
    for number in range(40):
        batch = trainer._training["Default"].batch(number)
        assert (batch["min_pair_dist"] >= limit).all()
        seen |= {(batch["sid"], frame) for frame in batch["fid"]}
    assert 0 < sum(system == 0 for system, _ in seen) < 7


def _median_of_closest_pairs(system):
    from ase import Atoms

    positions, boxes = (np.load(f"{system}/set.000/{key}.npy") for key in ("coord", "box"))
    closest = []
    for flat, box in zip(positions, boxes, strict=True):
        atoms = Atoms(positions=flat.reshape(-1, 3), cell=box.reshape(3, 3), pbc=True)
        distances = atoms.get_all_distances(mic=True)
        closest.append(distances[distances > 0].min())
    return float(np.median(closest))


def test_every_step_reports_all_terms_in_full_precision(straight):
    rows = metrics_of(straight)
    assert list(rows) == list(range(1, 9))
    for row in rows.values():
        assert {"train/loss", "train/rmse", "train/rmse_e", "train/rmse_f", "lr"} <= row.keys()
        assert row["train/rmse"] == pytest.approx(math.sqrt(row["train/loss"]), rel=1e-15)
    assert [step for step, row in rows.items() if "val/rmse_f" in row] == [1, 3, 6]
    assert rows[1]["lr"] == 0.001
    assert len({row["train/loss"] for row in rows.values()}) == 8


def test_tasks_report_under_their_own_names(runs):
    rows = metrics_of(runs.train(make_multi_task_config(steps=12)))
    for row in rows.values():
        tasks = {key.split("/")[2] for key in row if key.startswith("train/") and key.count("/") == 2}
        assert len(tasks) == 1
        assert "train/loss" in row
    assert {"val/rmse_f/alloy", "val/rmse_f/metal"} <= rows[3].keys()


@pytest.mark.parametrize(
    "optimizer",
    [{"type": "Adam"}, {"type": "AdamW", "weight_decay": 0.01}, ADAMUON, HYBRID_MUON],
    ids=lambda o: o["type"],
)
def test_a_step_is_deepmds_own_step(runs, optimizer):
    """Fed the same batches, DeePMD's own loop ends with the same bits."""
    config = _with(make_config(enable_ema=True, gradient_max_norm=0.7), learning_rate=WARM_UP, optimizer=optimizer)
    ours = runs.train(config)

    run = runs.make(config)
    trainer = engine_trainer.DeepmdTrainer(run.read_spec(), Quiet(run.root))
    theirs = trainer._trainer
    theirs.training_data = (trainer._training["Default"].batch(number) for number in range(8))
    theirs.display_in_training, theirs.save_freq = False, 0
    theirs.save_ckpt = str(run.root / "model")
    theirs.disp_file = str(run.root / "lcurve.out")
    theirs.save_model = theirs.save_ema_model = lambda *_, **__: None
    theirs.ckpt_store.publish = theirs.ema_ckpt_store.publish = lambda *_: None
    theirs.run()
    assert trainer.fingerprint() == manifest_of(ours, 8).fingerprint
    saved = checkpoint_of(ours, 8)
    assert_same(theirs.optimizer.state_dict()["state"], saved["optimizer"]["state"])
    assert_same(theirs.model_ema.state_dict()["model"], saved["ema"]["model"])


def test_sigterm_saves_and_stops_between_steps(runs):
    run = runs.make(make_config(steps=100_000), checkpoints={"every_steps": 1_000_000})
    process = runs.start(run)
    _wait_for_steps(run, process)
    process.stop()
    assert process.wait(30)
    assert process.exit_code == 0
    result = json.loads(run.result.read_text())
    assert result["outcome"] == "stopped"
    assert manifest_of(run, result["step"]).step == result["step"]
    assert max(metrics_of(run)) == result["step"]
    assert json.loads(run.status.read_text())["step"] == result["step"]


@pytest.mark.parametrize(("word", "checkpoints"), [("now", 0), ("checkpoint", 1)])
def test_the_stop_file_is_obeyed(runs, word, checkpoints):
    run = runs.make(make_config(steps=100_000), checkpoints={"every_steps": 1_000_000})
    process = runs.start(run)
    _wait_for_steps(run, process)
    run.stop.write_text(word)
    assert process.wait(30)
    assert json.loads(run.result.read_text())["outcome"] == "stopped"
    assert len(list(run.checkpoints.glob("step-*/manifest.json"))) == checkpoints


def _wait_for_steps(run, process):
    until = time.monotonic() + 120
    while not list(run.metrics.glob("*.arrow")):
        assert not process.wait(0.02), run.log.read_text()
        assert time.monotonic() < until, run.log.read_text()


def test_the_environment_is_recorded(straight):
    record = json.loads(straight.environment.read_text())
    assert record["libraries"].keys() >= {"torch", "deepmd-kit", "numpy"}
    assert record["determinism"]["deterministic_algorithms"] is True
    assert record["torch"]["threads"] == 1


def test_tasks_that_share_a_descriptor_share_its_number_of_neighbours(runs):
    """Each task's data ask for another number; the largest holds for all."""
    config = make_multi_task_config(steps=2)
    config["model"]["shared_dict"]["descriptor"] = {**make_config("se_e2_a")["model"]["descriptor"], "sel": "auto"}
    for task, system in (("alloy", "large"), ("metal", "small")):
        config["training"]["data_dict"][task]["training_data"]["systems"] = [f"dataset:cu@1/{system}"]
    run = runs.make(config)
    trainer = engine_trainer.DeepmdTrainer(run.read_spec(), Quiet(run.root))
    sels = [trainer._config.model(task)["descriptor"]["sel"] for task in trainer._config.tasks]
    assert sels[0] == sels[1]
    assert trainer.train_step(1)
