"""Tiny models of every descriptor, runs of them, and what to read from a run directory."""

import copy
import json
import os
import threading
import warnings

import pyarrow as pa
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when torch is imported
os.environ.setdefault("DP_INTRA_OP_PARALLELISM_THREADS", "1")
os.environ.setdefault("DP_INTER_OP_PARALLELISM_THREADS", "1")

with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
    warnings.simplefilter("ignore")  # third-party imports warn about their own dependencies
    # DeePMD-kit fixes its device here. This process computes on the CPU; a forkserver may do otherwise.
    patch.setenv("DEVICE", "cpu")
    import deepmd.pt.entrypoints.main

from worker.loop import StopSwitch
from worker.rundir import Manifest, Result, RunDir, RunSpec, write_json
from worker.trainer import train

assert deepmd

DESCRIPTORS = {
    "se_e2_a": {"type": "se_e2_a", "rcut": 3.6, "rcut_smth": 0.5, "sel": "auto", "neuron": [4, 8], "axis_neuron": 4},
    "se_atten_v2": {
        "type": "se_atten_v2", "rcut": 3.6, "rcut_smth": 0.5, "sel": "auto", "neuron": [4, 8], "axis_neuron": 4,
        "attn": 8, "attn_layer": 1,
    },
    "dpa2": {
        "type": "dpa2",
        "repinit": {"tebd_dim": 4, "rcut": 3.6, "rcut_smth": 0.5, "nsel": 30, "neuron": [4, 8], "axis_neuron": 4},
        "repformer": {
            "rcut": 3.0, "rcut_smth": 2.5, "nsel": 20, "nlayers": 1, "g1_dim": 8, "g2_dim": 4, "attn2_hidden": 4,
            "attn2_nhead": 2, "attn1_hidden": 8, "attn1_nhead": 2, "axis_neuron": 4,
        },
    },
    "se_atten": {
        "type": "se_atten", "rcut": 3.6, "rcut_smth": 0.5, "sel": 40, "neuron": [4, 8], "axis_neuron": 4,
        "attn": 8, "attn_layer": 1, "tebd_dim": 4,
    },
    "se_e2_r": {"type": "se_e2_r", "rcut": 3.6, "rcut_smth": 0.5, "sel": [30, 20], "neuron": [4, 8]},
    "se_e3": {"type": "se_e3", "rcut": 3.0, "rcut_smth": 0.5, "sel": [20, 12], "neuron": [2, 4]},
    "se_e3_tebd": {"type": "se_e3_tebd", "rcut": 3.0, "rcut_smth": 0.5, "sel": 20, "neuron": [2, 4], "tebd_dim": 4},
    "hybrid": {
        "type": "hybrid",
        "list": [
            {"type": "se_e2_r", "rcut": 3.6, "rcut_smth": 0.5, "sel": [30, 20], "neuron": [4, 8], "seed": 1},
            {"type": "se_e3", "rcut": 3.0, "rcut_smth": 0.5, "sel": "auto", "neuron": [2, 4], "seed": 2},
        ],
    },
    "dpa3": {
        "type": "dpa3", "precision": "float32",
        "repflow": {
            "n_dim": 8, "e_dim": 4, "a_dim": 4, "nlayers": 1, "e_rcut": 3.6, "e_rcut_smth": 3.0, "e_sel": 30,
            "a_rcut": 3.0, "a_rcut_smth": 2.5, "a_sel": 16, "axis_neuron": 4, "update_style": "res_residual",
        },
    },
}  # fmt: skip


def make_config(descriptor="se_e2_a", *, steps=8, **training):
    """Return an input.json that trains in milliseconds a step."""
    config = {
        "model": {
            "type_map": ["Cu", "Au"],
            "descriptor": {"seed": 11, **copy.deepcopy(DESCRIPTORS[descriptor])},
            "fitting_net": {"neuron": [8, 8], "seed": 12},
            "data_stat_nbatch": 2,
        },
        "learning_rate": {"type": "exp", "start_lr": 0.001, "stop_lr": 1e-5, "decay_steps": 3},
        "loss": {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1},
        "training": {
            "training_data": {"systems": ["dataset:cu@1/large", "dataset:cu@1/small"], "batch_size": 2},
            "validation_data": {"systems": ["dataset:cu@1/small"], "batch_size": 1, "numb_btch": 2},
            "numb_steps": steps, "disp_freq": 3, "save_freq": 1000, "seed": 13,
        },
    }  # fmt: skip
    if descriptor == "hybrid":
        del config["model"]["descriptor"]["seed"]  # its members have their own
    config["training"].update(training)
    return {**config, "training": {key: value for key, value in config["training"].items() if value is not None}}


def make_multi_task_config(*, steps=8):
    """Return an input.json with two tasks that share a descriptor."""
    single = make_config("se_atten_v2", steps=steps)
    branch = {"type_map": "types", "descriptor": "descriptor", "fitting_net": {"neuron": [8, 8], "seed": 3}}
    data = {
        "training_data": single["training"]["training_data"],
        "validation_data": single["training"]["validation_data"],
    }
    training = {key: value for key, value in single["training"].items() if key not in data}
    return {
        "model": {
            "shared_dict": {"types": ["Cu", "Au"], "descriptor": {**single["model"]["descriptor"], "sel": 40}},
            "model_dict": {"alloy": branch, "metal": {**branch, "fitting_net": {"neuron": [8, 8], "seed": 4}}},
        },
        "learning_rate": single["learning_rate"],
        "loss_dict": {"alloy": single["loss"], "metal": single["loss"]},
        "training": {
            **training,
            "model_prob": {"alloy": 0.4, "metal": 0.6},
            "data_dict": {"alloy": data, "metal": copy.deepcopy(data)},
        },
    }


class Runs:
    """Makes run directories below a temporary directory, and trains in this process or in a forked one."""

    def __init__(self, root, data_root, forkserver):
        self._root, self._data_root, self._forkserver = root, data_root, forkserver
        self._made = 0

    def make(self, config, *, resume_from=None, artifacts_from=None, **spec):
        """Write a run directory; `resume_from` is a checkpoint directory of another run."""
        self._made += 1
        run = RunDir(self._root / f"run{self._made}")
        run.create()
        run.data.rmdir()
        run.data.symlink_to(self._data_root)
        if resume_from is not None:
            run.resume.rmdir()
            run.resume.symlink_to(resume_from)
            spec["resume_step"] = Manifest.model_validate_json((resume_from / "manifest.json").read_bytes()).step
        if artifacts_from is not None:
            run.artifacts_in.rmdir()
            run.artifacts_in.symlink_to(artifacts_from.artifacts_out)
        given = {
            "engine": "deepmd", "job_name": "t", "submitted": {}, "datasets": {"cu@1": "d" * 64}, "seed": 1, "seeds": {},
            "determinism": "strict", "start": {"mode": "scratch"}, "checkpoints": {"every_steps": 4}, "file_stem": "t-s1",
            "threads": 1, "total_steps": config["training"]["numb_steps"], "config": config,
        }  # fmt: skip
        write_json(run.spec, RunSpec.model_validate({**given, **spec}))
        return run

    def train(self, config, *, device="cpu", **options):
        """Train, here or on a GPU in a process of its own, and return the run directory; fails unless it completes."""
        if device != "cpu":
            return self.finish(config, device=device, **options)
        run = self.make(config, **options)
        result = train(run, StopSwitch(run.stop))
        assert result.outcome == "completed", result
        return run

    def start(self, run, *, entry="worker.trainer:main", device="cpu"):
        """Start the real trainer process and return it."""
        return self._forkserver(device).spawn(entry, run.root, {}, threading.Event())

    def finish(self, config, *, entry="worker.trainer:main", device="cpu", **options):
        """Train in a process of its own and return the run directory; fails unless it completes."""
        run = self.make(config, **options)
        assert self.start(run, entry=entry, device=device).wait(250), run.log.read_text()
        assert Result.model_validate_json(run.result.read_bytes()).outcome == "completed", run.log.read_text()
        return run


class Quiet:
    """A context that keeps nothing."""

    def __init__(self, root):
        self.root = root

    def phase(self, name):
        pass

    def event(self, kind, message, data=None):
        pass

    def artifact(self, kind, key):
        return None

    def keep(self, kind, key, data):
        pass


def metrics_of(run):
    """Return {step: {key: value}} of everything a run reported, wall-clock times left out."""
    rows = {}
    for path in sorted(run.metrics.glob("*.arrow")):
        with pa.OSFile(str(path)) as file:
            for row in pa.ipc.open_stream(file).read_all().to_pylist():
                step = row.pop("step")
                kept = {key: value for key, value in row.items() if value is not None and not key.startswith("perf/")}
                rows.setdefault(step, {}).update(kept)
    return rows


def manifest_of(run, step):
    return Manifest.model_validate_json((run.checkpoints / f"step-{step}" / "manifest.json").read_bytes())


def checkpoint_of(run, step):
    """Return the content of a checkpoint file."""
    import torch

    [path] = (run.checkpoints / f"step-{step}").glob("*.pt")
    return torch.load(path, map_location="cpu", weights_only=True)


def events_of(run, kind):
    lines = [json.loads(line) for line in run.events.read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def assert_repeats(run, reference, *, after=0, but=(), only=lambda key: True):
    """Compare all that two runs of equally many steps left after a step, bit for bit: every metric and every checkpoint.

    `but` are keys of Cairn's part of the checkpoints that may differ, `only` says which metrics both have.
    """
    assert _bits(run, only) == {step: row for step, row in _bits(reference, only).items() if step > after}
    steps = [step for step in _checkpoints(reference) if step > after]
    assert _checkpoints(run) == steps != []
    for step in steps:
        ours, theirs = checkpoint_of(run, step), checkpoint_of(reference, step)
        for key in but:
            del ours["cairn"][key], theirs["cairn"][key]
        assert_same(ours, theirs, f"step {step}")
        assert manifest_of(run, step).fingerprint == manifest_of(reference, step).fingerprint
        if "rng" not in but:
            assert manifest_of(run, step).generators == manifest_of(reference, step).generators


def _bits(run, only):
    rows = metrics_of(run).items()
    return {step: {key: value.hex() for key, value in row.items() if only(key)} for step, row in rows}


def _checkpoints(run):
    return sorted(int(path.parent.name.removeprefix("step-")) for path in run.checkpoints.glob("step-*/manifest.json"))


def newest_checkpoint(run):
    """Return the directory of the newest whole checkpoint, or None."""
    steps = _checkpoints(run)
    return run.checkpoints / f"step-{steps[-1]}" if steps else None


def assert_same(left, right, where="checkpoint"):
    """Compare two nested structures of tensors and plain values bit for bit, the metadata of the file aside."""
    import torch

    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f"{where}/{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), where
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{where}/{index}")
    elif isinstance(left, torch.Tensor):
        assert (left.dtype, left.shape) == (right.dtype, right.shape), where
        # Bytes: 0.0 equals -0.0, and NaN equals nothing.
        assert torch.equal(*(value.contiguous().reshape(-1).view(torch.uint8) for value in (left, right))), where
    else:
        assert left == right, where
