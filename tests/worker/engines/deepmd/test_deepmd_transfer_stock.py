"""Fine-tuning begins as with stock `dp --finetune`: the same transferred tensors, the same refitted bias."""

import copy
import json

import pytest
import torch
from deepmd.pt.entrypoints.main import get_trainer
from deepmd.pt.utils.finetune import get_finetune_rules
from deepmd.utils.argcheck import normalize
from deepmd.utils.compat import update_deepmd_input

from tests.worker.engines.deepmd.deepmd_runs import make_config, make_multi_task_config
from tests.worker.engines.deepmd.starting import file_of, make, trainer_of, weights_of
from tests.worker.engines.deepmd.test_deepmd_stock import _dp
from worker.engines.deepmd import errands

pytestmark = pytest.mark.deepmd

STATISTICS = (".out_bias", ".out_std")
CASES = {
    "se_e2_a": ("se_e2_a", ["Cu", "Au"], "reuse"),
    "permuted": ("se_atten_v2", ["Au", "Cu"], "reuse"),
    "extended": ("se_atten_v2", ["Ag", "Au", "Cu"], "reuse"),
    "new fitting net": ("se_atten_v2", ["Cu", "Au"], "new"),
}


@pytest.fixture(scope="module")
def bases(session_runs):
    """Files of trained models, by descriptor."""
    made = {}

    def get(descriptor):
        if descriptor not in made:
            config = make_config(descriptor, steps=4)
            made[descriptor] = file_of(session_runs.train(config), 4)
        return made[descriptor]

    return get


def _config(file, type_map, branch=0):
    """Return an input whose model section is a base's, looking at every frame there is."""
    section = copy.deepcopy(errands.inspect(file, "b").branches[branch].model)
    section["descriptor"]["seed"], section["fitting_net"]["seed"] = 21, 22
    return make_config(steps=2, validation_data=None) | {
        "model": {**section, "type_map": type_map, "data_stat_nbatch": 100}
    }


def _for_stock(config, data_root):
    config = copy.deepcopy(config)
    config["training"]["training_data"]["systems"] = [str(data_root / "cu@1" / name) for name in ("large", "small")]
    return config


def _stock(config, file, data_root, branch=""):
    """Return what stock DeePMD-kit's trainer holds before its first step, in this process."""
    config = normalize(update_deepmd_input(_for_stock(config, data_root), warning=False))
    config["model"], links = get_finetune_rules(str(file), config["model"], model_branch=branch)
    trainer = get_trainer(config, finetune_model=str(file), finetune_links=links)
    return {name: value for name, value in trainer.wrapper.state_dict().items() if torch.is_tensor(value)}


def _compare(ours, theirs, is_new=lambda name: None):
    """All tensors are equal bit for bit, but what least squares gave: that to rounding.

    `is_new` returns which rows are drawn at random, or None.
    """
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if name.endswith("min_nbor_dist"):
            continue  # stock measures it in the new data, after its trainer is made
        rows = is_new(name)
        one, other = (value, theirs[name]) if rows is None else (value[rows], theirs[name][rows])
        if name.endswith(STATISTICS):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8, msg=name)
        else:
            assert torch.equal(one, other), name


@pytest.mark.parametrize("case", CASES)
def test_fine_tuning_begins_like_stock(runs, bases, data_root, case):
    descriptor, type_map, fitting = CASES[case]
    file = bases(descriptor)
    config = _config(file, type_map)
    run, _ = make(runs, config, file, mode="finetune", fitting=fitting)
    ours = weights_of(trainer_of(run))
    theirs = _stock(config, file, data_root, branch="RANDOM" if fitting == "new" else "")
    # Stock draws the embedding of a new type from a generator that no key of the input seeds.
    added = case == "extended"
    _compare(ours, theirs, lambda name: slice(1, None) if added and ".type_embedding." in name else None)


def test_fine_tuning_from_a_branch_begins_like_stock(runs, session_runs, data_root):
    file = file_of(session_runs.train(make_multi_task_config(steps=4)), 4)
    config = _config(file, ["Au", "Cu"], branch=1)
    run, _ = make(runs, config, file, mode="finetune", branch="metal")
    _compare(weights_of(trainer_of(run)), _stock(config, file, data_root, branch="metal"))


@pytest.mark.long  # files as stock writes them are read in every other test here
def test_a_base_that_stock_trained(runs, data_root, tmp_path):
    """`dp --pt train` writes it, Cairn reads it, and the bias moves. A frozen model has the same weights."""
    config = make_config(steps=2, validation_data=None, save_freq=2)
    config["model"]["descriptor"]["sel"] = [30, 20]
    (tmp_path / "input.json").write_text(json.dumps(_for_stock(config, data_root)))
    _dp("train", "input.json", "--skip-neighbor-stat", cwd=tmp_path)
    file = tmp_path / "model.ckpt-2.pt"
    before = torch.load(file, weights_only=True)["model"]
    run, found = make(runs, _config(file, ["Au", "Cu"]), file, mode="finetune")
    assert found.counts["remapped"] > 0
    trainer = trainer_of(run)
    bias = "model.Default.atomic_model.out_bias"
    assert not torch.equal(weights_of(trainer)[bias], before[bias][:, [1, 0]])

    _dp("freeze", "-c", file, "-o", "frozen.pth", cwd=tmp_path)
    frozen, found = make(runs, _config(file, ["Cu", "Au"]), tmp_path / "frozen.pth", mode="init")
    assert set(found.counts) == {"copied"}
    for name, value in weights_of(trainer_of(frozen)).items():
        assert torch.equal(value, before[name]), name
