"""Tiny models of every descriptor, runs of them, and what to read from a run directory."""

import copy
import json
import os
import threading
import warnings

import pyarrow as pa

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when torch is imported
os.environ.setdefault("DP_INTRA_OP_PARALLELISM_THREADS", "1")
os.environ.setdefault("DP_INTER_OP_PARALLELISM_THREADS", "1")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third-party imports warn about their own dependencies
    import deepmd.pt.entrypoints.main

from worker.loop import StopSwitch
from worker.rundir import Manifest, RunDir, RunSpec, write_json
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
            "model_dict": {"alloy": branch, "metal": copy.deepcopy(branch)},
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

    def train(self, config, **options):
        """Train here and return the run directory; fails unless it completes."""
        run = self.make(config, **options)
        result = train(run, StopSwitch(run.stop))
        assert result.outcome == "completed", result
        return run

    def start(self, run):
        """Start the real trainer process and return it."""
        return self._forkserver().spawn("worker.trainer:main", run.root, {}, threading.Event())


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
    return torch.load(path, weights_only=True)


def events_of(run, kind):
    lines = [json.loads(line) for line in run.events.read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


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
        assert left.dtype == right.dtype, where
        assert torch.equal(left, right), where
    else:
        assert left == right, where
