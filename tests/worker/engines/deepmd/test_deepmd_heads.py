"""One task of a training of several: tested, frozen and relaxed with, always the one that was asked for."""

import json

import numpy as np
import pytest
from deepmd.infer.deep_pot import DeepPot

from app.engines.deepmd import relaxing
from tests.worker.engines.deepmd.deepmd_runs import make_multi_task_config
from tests.worker.engines.runs import metrics_of

pytestmark = [
    pytest.mark.deepmd,
    pytest.mark.filterwarnings("ignore:`torch.jit"),  # DeePMD-kit's own way to freeze and to run what it froze
]

HEADS = ("alloy", "metal")


@pytest.fixture(scope="module")
def weights(session_runs):
    """A checkpoint of a training of two tasks."""
    run = session_runs.train(make_multi_task_config(steps=2))
    [path] = (run.checkpoints / "step-2").glob("*.pt")
    return path


@pytest.fixture(scope="module")
def frames(data_root):
    """The frames of a system: coordinates, cells, types, and the labels of forces."""
    folder = data_root / "cu@1" / "small"
    coord, box, force = (np.load(folder / "set.000" / f"{name}.npy") for name in ("coord", "box", "force"))
    return coord, box, np.loadtxt(folder / "type.raw", dtype=int), force


@pytest.fixture(scope="module")
def said(weights, frames):
    """What DeePMD-kit itself says of the frames, by task: energies and forces."""
    coord, box, types, _ = frames
    return {head: DeepPot(str(weights), head=head).eval(coord, box, types)[:2] for head in HEADS}


@pytest.mark.parametrize("head", HEADS)
def test_the_errors_are_those_of_the_task(task, weights, frames, said, head):
    config = {"data": ["dataset:cu@1/small"], "numb_test": 0, "detail": False, "worst": 0, "head": head}
    result, run = task("test", [weights], 5, config=config)
    assert result.outcome == "completed", result
    [model] = json.loads((run.files / "test.json").read_text())["models"]
    _, forces = said[head]
    assert model["overall"]["rmse_f"] == pytest.approx(np.sqrt(np.mean((forces.reshape(5, -1) - frames[3]) ** 2)))
    assert not np.array_equal(said["alloy"][1], said["metal"][1]), "the tasks can be told apart"


def test_the_frozen_file_holds_the_task(task, weights, frames, said):
    head = "metal"  # no tool takes the second one by itself
    result, run = task("freeze", [weights], 1, config={"head": head})
    assert result.outcome == "completed", result
    about = json.loads((run.files / "frozen_model.json").read_text())
    assert (about["head"], about["type_map"]) == (head, ["Cu", "Au"])
    coord, box, types, _ = frames
    energies, forces, *_ = DeepPot(str(run.files / about["file"])).eval(coord, box, types)
    assert np.allclose(energies, said[head][0], rtol=0, atol=1e-9)
    assert np.allclose(forces, said[head][1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", ["checkpoint", "frozen"])
def test_a_relaxation_goes_by_the_forces_of_the_task(task, weights, frames, said, form):
    coord, box, types, _ = frames
    structure = {
        "name": "cell", "symbols": [("Cu", "Au")[one] for one in types],
        "positions": coord[0].reshape(-1, 3).tolist(), "cell": box[0].reshape(3, 3).tolist(),
    }  # fmt: skip
    options = {"structures": [], "inline": [structure], "max_steps": 1, "head": "metal", "form": form}
    result, run = task("relax", [weights], 0, config={**relaxing.DEFAULTS, **options})
    assert result.outcome == "completed", result
    first = metrics_of(run)[1]
    energies, forces = said["metal"]
    assert first["relax/energy_per_atom"] == pytest.approx(energies[0, 0] / len(types), rel=1e-12)
    assert first["relax/fmax"] == pytest.approx(np.linalg.norm(forces[0], axis=1).max(), rel=1e-9)
