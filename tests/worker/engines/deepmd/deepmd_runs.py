"""Tiny models of every descriptor."""

import copy
import os
import warnings

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when torch is imported
os.environ.setdefault("DP_INTRA_OP_PARALLELISM_THREADS", "1")
os.environ.setdefault("DP_INTER_OP_PARALLELISM_THREADS", "1")

with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
    warnings.simplefilter("ignore")  # third-party imports warn about their own dependencies
    # DeePMD-kit fixes its device here. This process computes on the CPU; a forkserver may do otherwise.
    patch.setenv("DEVICE", "cpu")
    import deepmd.pt.entrypoints.main

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
