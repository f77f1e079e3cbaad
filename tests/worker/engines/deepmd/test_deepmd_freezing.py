"""Jobs of kind freeze: the file holds the checkpoint's weights bit for bit, and stock tools take it."""

import hashlib
import json

import numpy as np
import pytest
import torch
from deepmd.calculator import DP

from tests.worker.engines.runs import metrics_of
from worker.engines.deepmd import freezing

pytestmark = [
    pytest.mark.deepmd,
    pytest.mark.filterwarnings("ignore:`torch.jit"),  # DeePMD-kit's own way to freeze and to run what it froze
]


@pytest.fixture(scope="module")
def frozen(task, checkpoints):
    """Both checkpoints, frozen by one job."""
    result, run = task("freeze", checkpoints, 2, config={"head": None})
    assert result.outcome == "completed", result
    return run


def test_each_file_has_a_paper_that_says_where_it_came_from(frozen):
    names = {path.name for path in frozen.files.iterdir()}
    assert names == {f"frozen_model-{number}.{ending}" for number in (1, 2) for ending in ("pth", "json")}
    for number in (1, 2):
        about = json.loads((frozen.files / f"frozen_model-{number}.json").read_text())
        content = (frozen.files / about["file"]).read_bytes()
        assert (about["sha256"], about["size"]) == (hashlib.sha256(content).hexdigest(), len(content))
        assert (about["model"], about["type_map"]) == (f"job:1@{number - 1}", ["Cu", "Au"])
        assert about["same_frame"]["force_difference"] < 1e-12
    rows = metrics_of(frozen)
    assert rows[2]["freeze/tensors"] == about["tensors"] > 10
    assert "bit for bit" in frozen.events.read_text()


def test_ase_gets_the_checkpoints_numbers_from_it(frozen, checkpoints):
    from ase.build import bulk

    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    forces = []
    for model in (checkpoints[1], frozen.files / "frozen_model-2.pth"):
        atoms.calc = DP(model=str(model))
        forces.append(atoms.get_forces())
    assert np.allclose(*forces, rtol=0, atol=1e-12)


def test_weights_that_are_not_the_checkpoints_are_no_success(task, checkpoints, monkeypatch):
    def shifted(model, output, head):
        state = torch.load(model, weights_only=True)
        name = next(key for key in state["model"] if key.endswith("bias_atom_e"))
        state["model"][name] += 1e-9
        torch.save(state, model + ".other.pt")
        freeze(model + ".other.pt", output, head=head)

    freeze = freezing.freeze
    monkeypatch.setattr(freezing, "freeze", shifted)
    result, run = task("freeze", checkpoints[:1], 1, config={"head": None})
    assert (result.cause.failure, list(run.files.iterdir())) == ("library", [])
    assert "bias_atom_e" in result.cause.message
