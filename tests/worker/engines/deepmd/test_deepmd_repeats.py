"""Equal specs give equal bits, whatever surrounds the training: another look at it, another process, another machine."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from app.jobs import comparison
from app.jobs.series import Series
from tests.worker.engines import accidents
from tests.worker.engines.deepmd.deepmd_runs import make_config, make_multi_task_config
from tests.worker.engines.runs import assert_repeats, events_of, manifest_of, metrics_of
from worker.engines.deepmd.trainer import DeepmdTrainer

pytestmark = pytest.mark.deepmd

WARM_UP = {"type": "cosine", "start_lr": 0.001, "stop_lr": 1e-5, "warmup_steps": 5, "warmup_start_factor": 0.1}
ALL_AT_ONCE = {**make_config("se_atten", enable_ema=True, gradient_max_norm=0.5), "learning_rate": WARM_UP}
KINDS = {"single-task": ALL_AT_ONCE, "multi-task": make_multi_task_config()}


@pytest.fixture(scope="module")
def reference(session_runs, device):
    """Return the run of a config that every other run of it must equal."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = session_runs.train(KINDS[kind], device=device)
        return made[kind]

    return get


def _with_training(config, **training):
    changed = {**config, "training": {**config["training"], **training}}
    return {**changed, "training": {key: value for key, value in changed["training"].items() if value is not None}}


@pytest.mark.parametrize("kind", KINDS)
def test_two_runs_are_equal(runs, device, reference, kind):
    accidents.stir()
    assert_repeats(runs.train(KINDS[kind], device=device), reference(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_depends_on_the_generators_that_all_share(runs, device, reference, kind):
    """Python's, NumPy's, torch's and DeePMD-kit's own generators are disturbed before every phase, step and validation."""
    run = runs.finish(KINDS[kind], device=device, entry="tests.worker.engines.accidents:poisoned")
    assert manifest_of(run, 8).generators != manifest_of(reference(kind), 8).generators
    assert_repeats(run, reference(kind), but=("rng", "dp_random"))


@pytest.mark.parametrize(("kind", "freq"), [("single-task", 1), ("single-task", 100), ("multi-task", 1)])
def test_how_often_a_training_is_looked_at_does_not_change_it(runs, device, reference, kind, freq):
    run = runs.train(_with_training(KINDS[kind], disp_freq=freq), device=device)
    ours, theirs = metrics_of(run), metrics_of(reference(kind))
    validated = [[step for step, row in rows.items() if any(map(_is_validation, row))] for rows in (ours, theirs)]
    assert validated == [list(range(1, 9)) if freq == 1 else [1], [1, 3, 6]]
    for step in set(validated[0]) & set(validated[1]):
        assert ours[step] == theirs[step], "also what was measured in the validation"
    assert_repeats(run, reference(kind), but=("config",), only=_is_no_validation)


def test_validation_does_not_change_a_training(runs, device, reference):
    run = runs.train(_with_training(ALL_AT_ONCE, validation_data=None), device=device)
    assert not any(_is_validation(key) for row in metrics_of(run).values() for key in row)
    assert_repeats(run, reference("single-task"), but=("config",), only=_is_no_validation)


def _is_validation(key):
    return key.startswith("val/")


def _is_no_validation(key):
    return not _is_validation(key)


def test_kept_statistics_give_the_same_training(runs, device, reference):
    original = reference("single-task")
    run = runs.train(ALL_AT_ONCE, device=device, artifacts_from=original)
    assert [events_of(one, "statistics")[0]["data"]["source"] for one in (original, run)] == ["computed", "loaded"]
    assert_repeats(run, original)


def test_the_single_frame_training_of_deepmd_kit_4457_repeats(runs, device):
    """Its three seeds, one frame: equal in the first step, then further and further apart, whenever it was run again."""
    config = make_config(steps=60, validation_data=None)
    config["model"]["descriptor"]["seed"] = config["model"]["fitting_net"]["seed"] = config["training"]["seed"] = 1
    config["training"]["training_data"] = {"systems": ["dataset:cu@1/single"], "batch_size": 1}
    first = runs.train(config, device=device, checkpoints={"every_steps": 20})
    accidents.stir()
    assert_repeats(runs.train(config, device=device, checkpoints={"every_steps": 20}), first)


# --- another process, another machine ---------------------------------------------------------------------------------


def test_another_worker_makes_the_same_of_a_job(runs, device, reference, tmp_path, data_root):
    """A new interpreter elsewhere: other host, directories, order of sets and place of the data on the disk."""
    original = reference("single-task")
    run = runs.make(ALL_AT_ONCE)
    shutil.copytree(data_root, tmp_path / "elsewhere" / "data")
    run.data.unlink()
    run.data.symlink_to(tmp_path / "elsewhere" / "data")
    code = "import socket, sys; socket.gethostname = lambda: 'elsewhere'; from worker.trainer import main; main(sys.argv[1])"
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[4]),
        "PYTHONHASHSEED": "77",
        "NUM_WORKERS": "0",
        "DEVICE": device,
    }
    command = [sys.executable, "-c", code, str(run.root)]
    done = subprocess.run(command, cwd=tmp_path / "elsewhere", env=environment, check=False, timeout=250)
    assert done.returncode == 0, run.log.read_text()
    assert_repeats(run, original)
    assert _artifacts(run) == _artifacts(original), "the same statistics are the same bytes"
    differing = {one.pointer for one in comparison.differing(_environment(run), _environment(original))}
    assert {"/host", "/variables/PYTHONHASHSEED"} <= differing


def _artifacts(run):
    return {path.name: path.read_bytes() for path in run.artifacts_out.iterdir()}


def _environment(run):
    return json.loads(run.environment.read_text())


def test_the_number_of_threads_changes_no_small_training_and_is_recorded(runs, straight, monkeypatch):
    """With larger models sums in the steps may differ; where the training begins never does: one thread sums statistics."""
    used = []
    original = DeepmdTrainer._construct

    def construct(self, **options):
        used.append((options["mode"], torch.get_num_threads()))
        return original(self, **options)

    monkeypatch.setattr(DeepmdTrainer, "_construct", construct)
    threads = torch.get_num_threads()
    try:
        run = runs.train(make_config(), threads=2)
    finally:
        torch.set_num_threads(threads)
    assert used == [("update", 1), ("read", 2)]
    assert_repeats(run, straight)
    assert _beginning(run) == _beginning(straight)
    differing = comparison.differing(_environment(straight), _environment(run))
    assert {(one.pointer, one.left, one.right) for one in differing} == {
        ("/determinism/threads", 1, 2),
        ("/torch/threads", 1, 2),
    }


def _beginning(run):
    return [event["data"]["sha256"] for kind in ("fingerprint", "statistics") for event in events_of(run, kind)]


# --- planted differences ----------------------------------------------------------------------------------------------


def test_a_change_of_one_ulp_is_found_at_its_step(runs, monkeypatch):
    """Of a loss in the metrics, of weights in the checkpoint: a loss may round away what is new in the last bits of weights."""
    often = {"checkpoints": {"every_steps": 1}}
    reference = runs.train(make_config(), **often)
    original = DeepmdTrainer.train_step

    def train_step(self, step):
        if step == 7:
            with torch.no_grad():
                for weight in self._trainer.model.atomic_model.fitting_net.parameters():
                    weight.copy_(torch.nextafter(weight, torch.full_like(weight, math.inf)))
        metrics = original(self, step)
        return {**metrics, "train/rmse_f": math.nextafter(metrics["train/rmse_f"], math.inf)} if step == 5 else metrics

    monkeypatch.setattr(DeepmdTrainer, "train_step", train_step)
    run = runs.train(make_config(), **often)
    keys = {key for row in metrics_of(reference).values() for key in row}
    found = comparison.compare_metrics(keys, lambda key: _stream(reference, key), lambda key: _stream(run, key))
    assert (found.divergence.key, found.divergence.step, found.steps) == ("train/rmse_f", 5, 4)
    assert found.divergence.right.hex == math.nextafter(float.fromhex(found.divergence.left.hex), math.inf).hex()
    pair = comparison.first_differing(comparison.pair_checkpoints(_fingerprints(reference), _fingerprints(run)))
    assert (pair.stage, pair.step) == ("checkpoint", 7)


def _fingerprints(run):
    return comparison.Fingerprints(checkpoints={step: manifest_of(run, step).fingerprint for step in range(1, 9)})


def _stream(run, key):
    rows = [(step, row[key]) for step, row in metrics_of(run).items() if key in row]
    yield Series(np.array([step for step, _ in rows]), np.array([value for _, value in rows]))
