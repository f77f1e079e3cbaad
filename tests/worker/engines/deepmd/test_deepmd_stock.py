"""What stock `dp --pt` makes of our checkpoints, and whether our numbers are its numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from deepmd.pt.entrypoints.main import freeze, get_trainer
from deepmd.utils.argcheck import normalize
from deepmd.utils.compat import update_deepmd_input

from tests.worker.engines.deepmd.deepmd_runs import make_config, make_multi_task_config
from tests.worker.engines.runs import assert_same, checkpoint_of

pytestmark = [
    pytest.mark.deepmd,
    pytest.mark.filterwarnings("ignore:`torch.jit"),  # DeePMD-kit's own way to freeze
]


def _dp(*arguments, cwd):
    program = Path(sys.executable).with_name("dp")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUM_WORKERS": "0"}
    done = subprocess.run(
        [program, "--pt", *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def test_stock_freeze_test_restart_and_ase_take_a_checkpoint(straight, tmp_path):
    [saved] = (straight.checkpoints / "step-8").glob("*.pt")
    systems = straight.data / "cu@1"

    _dp("freeze", "-c", saved, "-o", "frozen.pth", cwd=tmp_path)
    assert "Force  RMSE" in _dp("test", "-m", "frozen.pth", "-s", systems / "small", "-n", "5", cwd=tmp_path)
    _check_restart(saved, systems, tmp_path)
    _check_calculator(tmp_path / "frozen.pth", systems / "small")


def _check_restart(saved, systems, tmp_path):
    """Stock goes on with step 9: no step twice, Adam's counter and the learning rate where they belong."""
    config = make_config(steps=12, disp_freq=1, save_freq=100, validation_data=None)
    config["training"]["training_data"]["systems"] = [str(systems / "large"), str(systems / "small")]
    config["model"]["descriptor"]["sel"] = json.loads(torch.load(saved, weights_only=True)["cairn"]["model"])[
        "descriptor"
    ]["sel"]
    (tmp_path / "input.json").write_text(json.dumps(config))
    _dp("train", "input.json", "--restart", saved, "--skip-neighbor-stat", cwd=tmp_path)
    rows = np.loadtxt(tmp_path / "lcurve.out")
    assert rows[:, 0].tolist() == [9, 10, 11, 12]
    [last] = tmp_path.glob("model.ckpt-12.pt")
    optimizer = torch.load(last, weights_only=True)["optimizer"]
    assert {int(state["step"]) for state in optimizer["state"].values()} == {12}


def _check_calculator(frozen, system):
    from ase import Atoms
    from deepmd.calculator import DP

    frames = {key: np.load(system / "set.000" / f"{key}.npy") for key in ("coord", "box", "energy")}
    types = np.loadtxt(system / "type.raw", dtype=int)
    atoms = Atoms(np.array(["Cu", "Au"])[types], frames["coord"][0].reshape(-1, 3), cell=frames["box"][0].reshape(3, 3))
    atoms.pbc = True
    atoms.calc = DP(model=str(frozen))
    assert abs(atoms.get_potential_energy() - frames["energy"][0]) < len(atoms)
    assert atoms.get_forces().shape == (len(atoms), 3)


def test_a_multi_task_checkpoint_freezes_by_its_head(runs, tmp_path):
    run = runs.train(make_multi_task_config(steps=2))
    [saved] = (run.checkpoints / "step-2").glob("*.pt")
    freeze(str(saved), str(tmp_path / "alloy.pth"), head="alloy")
    assert (tmp_path / "alloy.pth").stat().st_size > 0


def test_statistics_are_those_of_stock_deepmd(runs):
    """With every frame looked at, the order of frames no longer matters and both must agree."""
    config = make_config(steps=1)
    config["model"]["data_stat_nbatch"] = 100
    config["model"]["descriptor"]["sel"] = [30, 20]
    run = runs.train(config)
    ours = checkpoint_of(run, 1)["model"]

    config["training"]["training_data"]["systems"] = [str(run.data / "cu@1" / name) for name in ("large", "small")]
    config["training"].pop("validation_data")
    stock = get_trainer(normalize(update_deepmd_input(config, warning=False))).wrapper.state_dict()
    names = [name for name in ours if name.endswith((".mean", ".stddev", ".out_bias", ".out_std"))]
    assert len(names) == 4
    for name in names:
        assert torch.allclose(ours[name], stock[name], rtol=1e-10, atol=1e-12), name


def test_tensors_under_two_names_stay_one_tensor(straight):
    model = checkpoint_of(straight, 8)["model"]
    pairs = [(name, name.replace("._networks.", ".networks.")) for name in model if "._networks." in name]
    assert pairs
    assert_same([model[one] for one, _ in pairs], [model[other] for _, other in pairs])
    assert all(model[one].data_ptr() == model[other].data_ptr() for one, other in pairs)
