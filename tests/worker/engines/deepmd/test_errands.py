"""Inspection and inventory: the facts of real models, and files that are not what they claim."""

import copy
import hashlib
import json

import pytest
import torch

from app.engines.deepmd.inventory import order as inventory_order
from tests.worker.engines.deepmd import model_files
from tests.worker.engines.deepmd.deepmd_runs import make_config, make_multi_task_config
from tests.worker.engines.deepmd.test_deepmd_stock import _dp
from worker.engines.base import RefusedFile
from worker.engines.deepmd import errands

pytestmark = pytest.mark.deepmd


@pytest.fixture(scope="module")
def water():
    """A se_e2_a checkpoint, to be changed by nobody."""
    return model_files.make_checkpoint("se_e2_a")


def inspect(data, tmp_path, name="model.pt"):
    return errands.inspect(model_files.save(data, tmp_path / name), name)


def refusal(data, tmp_path):
    with pytest.raises(RefusedFile) as caught:
        inspect(data, tmp_path)
    assert caught.value.hint
    return str(caught.value)


def with_section(data, change):
    """Return a checkpoint whose model section was changed by `change`."""
    data = {"model": dict(data["model"])}
    data["model"]["_extra_state"] = extra = copy.deepcopy(data["model"]["_extra_state"])
    change(extra["model_params"])
    return data


# --- inspect ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("se_e2_a", "se_e2_a"),
        ("se_atten_v2", "se_atten_v2"),
        ("dpa2", "dpa2"),
        ("dpa3", "dpa3"),
        ("hybrid", "hybrid of se_e2_r and se_e3"),
        ("multi-task", "se_atten_v2, 2 tasks"),
    ],
)
def test_the_facts_are_those_of_the_state_dict(kind, architecture, tmp_path):
    wrapper = model_files.make_wrapper(kind)
    data = model_files.checkpoint_of(wrapper, step=40)
    facts = inspect(data, tmp_path)
    state = {name: value for name, value in data["model"].items() if name != "_extra_state"}
    assert (facts.engine, facts.form, facts.architecture) == ("deepmd", "checkpoint", architecture)
    assert (facts.step, facts.has_optimizer, facts.warnings) == (40, True, [])
    assert [tensor.name for tensor in facts.tensors] == sorted(state)
    for tensor in facts.tensors:
        value = state[tensor.name]
        assert tensor.shape == list(value.shape)
        assert f"torch.{tensor.dtype}" == str(value.dtype)
        told = f"{value.dtype}\0{tuple(value.shape)}\0".encode() + value.contiguous().numpy().tobytes()
        assert tensor.sha256 == hashlib.sha256(told).hexdigest()
    assert {tensor.name for tensor in facts.tensors if tensor.is_parameter} == {
        name for name, _ in wrapper.named_parameters(remove_duplicate=False)
    }
    assert facts.parameters == sum(parameter.numel() for parameter in wrapper.parameters())


def test_tasks_count_what_they_share_each_for_itself(tmp_path):
    facts = inspect(model_files.make_checkpoint("multi-task"), tmp_path)
    assert [branch.name for branch in facts.branches] == ["alloy", "metal"]
    assert [branch.type_map for branch in facts.branches] == [["Cu", "Au"]] * 2
    single = inspect(model_files.make_checkpoint("se_atten_v2"), tmp_path).parameters
    assert [branch.parameters for branch in facts.branches] == [single, single]
    assert single < facts.parameters < 2 * single


def test_a_frozen_model_has_the_facts_of_its_checkpoint(water, tmp_path):
    frozen = errands.inspect(model_files.freeze(water, tmp_path / "frozen.pth"), "frozen.pth")
    told = inspect(water, tmp_path)
    assert frozen.tensors == told.tensors
    assert frozen.branches == told.branches
    assert frozen.parameters == told.parameters


def test_what_was_saved_in_a_wrapper_has_the_same_facts_and_says_so(water, tmp_path):
    wrapped = {"model": {f"module._orig_mod.{name}": value for name, value in water["model"].items()}}
    facts = inspect(wrapped, tmp_path)
    assert facts.tensors == inspect(water, tmp_path).tensors
    [notice] = facts.warnings
    assert notice.code == "unwrapped"
    assert "`_orig_mod.`" in notice.message
    assert "`module.`" in notice.message


def test_a_section_of_an_older_version_is_completed_and_what_is_unknown_is_told(water, tmp_path):
    def age(section):
        del section["descriptor"]["env_protection"]
        section["descriptor"]["type"] = "se_a"
        section["descriptor"]["gone_since"] = True

    facts = inspect(with_section(water, age), tmp_path)
    assert facts.branches == inspect(water, tmp_path).branches
    [warning] = facts.warnings
    assert warning.code == "base-key-ignored"
    assert "gone_since" in warning.message


def test_tensors_of_another_model_are_named(water, tmp_path):
    deeper = refusal(with_section(water, lambda section: section["fitting_net"]["neuron"].append(8)), tmp_path)
    assert "not what it claims to be" in deeper
    assert "it lacks model.Default.atomic_model.fitting_net.filter_layers" in deeper
    flatter = refusal(with_section(water, lambda section: section["fitting_net"]["neuron"].pop()), tmp_path)
    assert "it has, beyond the model, model.Default.atomic_model.fitting_net.filter_layers" in flatter
    wider = refusal(with_section(water, lambda section: section["fitting_net"].update(neuron=[9, 8])), tmp_path)
    assert "of shape [32, 8] instead of [32, 9]" in wider


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda section: section["descriptor"].update(type="dpa4"), "DPA-4 is not supported yet"),
        (lambda section: section.update(spin={"use_spin": [True]}), "spin models are not supported yet"),
        (lambda section: section.update(use_srtab="table"), "'use_srtab'"),
        (lambda section: section.update(type="linear_ener"), "model type 'linear_ener', which is not supported"),
        (lambda section: section["fitting_net"].update(type="dipole"), "fitting net type 'dipole'"),
        (lambda section: section["descriptor"].update(type="mine"), "'mine'"),
        (lambda section: section.update(descriptor=3), "descriptor must be an object"),
        (lambda section: section["descriptor"].update(rcut="wide"), "rcut must be"),
    ],
)
def test_models_that_no_training_can_start_from_are_refused(water, tmp_path, change, words):
    with pytest.raises(RefusedFile, match=words):
        inspect(with_section(water, change), tmp_path)


# --- inventory --------------------------------------------------------------------------------------------------------


def listed(config):
    return errands.inventory(inventory_order(config)).tensors


@pytest.mark.parametrize("kind", model_files.KINDS)
def test_an_inventory_is_what_the_model_will_have(kind, tmp_path):
    config = make_multi_task_config() if kind == "multi-task" else make_config(kind)
    config["model"] = model_files.make_sections(kind)
    facts = inspect(model_files.make_checkpoint(kind), tmp_path).tensors
    assert listed(config) == [tensor.model_copy(update={"sha256": None}) for tensor in facts]


def test_sizes_that_the_data_decide_are_open():
    shapes = {tensor.name: tensor.shape for tensor in listed(make_config("se_e2_a"))}
    closed = make_config("se_e2_a")
    closed["model"] = model_files.make_sections("se_e2_a")
    fixed = {tensor.name: tensor.shape for tensor in listed(closed)}
    assert shapes.keys() == fixed.keys()
    differing = {name: (shapes[name], fixed[name]) for name in shapes if shapes[name] != fixed[name]}
    at = "model.Default.atomic_model.descriptor.sea."
    assert differing == {f"{at}mean": ([2, -1, 4], [2, 50, 4]), f"{at}stddev": ([2, -1, 4], [2, 50, 4])}


@pytest.mark.parametrize(
    ("repinit", "repformer"), [("auto", "auto:1.5"), ("auto", 40), (60, "auto"), (600, "auto"), (60, 40)]
)
def test_dpa2_wants_more_neighbours_within_the_larger_cutoff(repinit, repformer):
    config = make_config("dpa2")
    config["model"]["descriptor"]["repinit"]["nsel"] = repinit
    config["model"]["descriptor"]["repformer"]["nsel"] = repformer
    open_shapes = {tensor.name for tensor in listed(config) if -1 in tensor.shape}
    at = "model.Default.atomic_model.descriptor."
    assert (f"{at}repinit.mean" in open_shapes) == (repinit != 60 and repinit != 600)
    assert (f"{at}repformers.mean" in open_shapes) == (repformer != 40)


def test_a_shared_descriptor_may_leave_its_size_to_the_data():
    config = make_multi_task_config()
    config["model"]["shared_dict"]["descriptor"]["sel"] = "auto"
    tensors = {tensor.name: tensor for tensor in listed(config)}
    mean = "atomic_model.descriptor.se_atten.mean"
    assert tensors[f"model.alloy.{mean}"].shape == tensors[f"model.metal.{mean}"].shape == [2, -1, 4]


def test_a_model_that_cannot_be_built_is_refused_with_the_librarys_words():
    config = make_config("dpa2")
    config["model"]["descriptor"]["repformer"]["rcut"] = 9.0
    with pytest.raises(RefusedFile, match=r"DeePMD-kit 3\.2\.0 cannot build this model: AssertionError"):
        listed(config)


def test_nothing_of_the_models_numbers_depends_on_chance(water, tmp_path):
    torch.manual_seed(1)
    first = inspect(water, tmp_path)
    torch.manual_seed(2)
    assert inspect(water, tmp_path) == first


# --- what stock writes ------------------------------------------------------------------------------------------------


def _train(config, data_root, where, *options):
    """Train with stock `dp --pt` and return the checkpoint it leaves."""
    text = json.dumps(config).replace("dataset:cu@1", str(data_root / "cu@1"))
    (where / "input.json").write_text(text)
    _dp("train", "input.json", *options, cwd=where)
    return where / "model.ckpt-3.pt"


@pytest.mark.long
def test_what_stock_trains_and_freezes_is_inspected(data_root, tmp_path):
    checkpoint = _train(make_config("se_e2_a", steps=3), data_root, tmp_path)
    _dp("freeze", "-c", checkpoint, "-o", "frozen.pth", cwd=tmp_path)
    facts = errands.inspect(checkpoint, "model.ckpt-3.pt")
    assert (facts.step, facts.has_optimizer, facts.architecture, facts.warnings) == (3, True, "se_e2_a", [])
    assert all(isinstance(number, int) for number in facts.branches[0].model["descriptor"]["sel"])
    assert errands.inspect(tmp_path / "frozen.pth", "frozen.pth").tensors == facts.tensors


@pytest.mark.long
def test_what_stock_trains_for_several_tasks_is_inspected(data_root, tmp_path):
    checkpoint = _train(make_multi_task_config(steps=3), data_root, tmp_path, "--skip-neighbor-stat")
    facts = errands.inspect(checkpoint, "model.ckpt-3.pt")
    assert (facts.step, facts.architecture, facts.warnings) == (3, "se_atten_v2, 2 tasks", [])
    assert facts.parameters < sum(branch.parameters for branch in facts.branches)


def test_a_checkpoint_of_cairns_is_inspected(straight):
    [path] = (straight.checkpoints / "step-8").glob("*.pt")
    facts = errands.inspect(path, path.name)
    assert (facts.form, facts.step, facts.library) == ("Cairn checkpoint", 8, "deepmd-kit 3.2.0")
    spec = straight.read_spec()
    assert (facts.config, facts.seed, facts.seeds) == (spec.config, spec.seed, spec.seeds)
    assert facts.warnings == []
