"""Files of weights: every form is read, under the same names, and everything else is refused with words."""

import io
import json
import pickle
import re
import struct
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
import torch

from tests.worker.engines.deepmd import model_files
from worker import wrappers
from worker.engines.base import RefusedFile
from worker.engines.deepmd import weights

pytestmark = pytest.mark.deepmd


@pytest.fixture(scope="module")
def water():
    """A se_e2_a checkpoint, to be changed by nobody."""
    return model_files.make_checkpoint("se_e2_a")


def saved(data, tmp_path, name="model.pt"):
    return model_files.save(data, tmp_path / name)


def refusal(path):
    with pytest.raises(RefusedFile) as caught:
        weights.read(path)
    assert caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in model_files.KINDS if kind != "multi-task"])
def test_a_frozen_model_says_the_same_as_its_checkpoint(kind, tmp_path):
    data = model_files.make_checkpoint(kind)
    checkpoint = weights.read(saved(data, tmp_path, "model.anything"))
    frozen = weights.read(model_files.freeze(data, tmp_path / "frozen.else"))
    assert checkpoint.tensors.keys() == {name for name in data["model"] if name != "_extra_state"}
    assert frozen.tensors.keys() == checkpoint.tensors.keys()
    for name, tensor in checkpoint.tensors.items():
        assert torch.equal(frozen.tensors[name], tensor), name
        assert frozen.tensors[name].dtype == tensor.dtype
    assert frozen.aliases == checkpoint.aliases
    assert frozen.model_params == checkpoint.model_params
    assert (checkpoint.form, checkpoint.step, checkpoint.has_optimizer) == ("checkpoint", 6, True)
    assert (frozen.form, frozen.step, frozen.has_optimizer) == ("frozen model", None, False)


def test_duplicates_are_aliases(water, tmp_path):
    found = weights.read(saved(water, tmp_path))
    assert found.branches == ["Default"]
    assert found.aliases
    for name, first in found.aliases.items():
        assert "._networks." in name
        assert first == name.replace("._networks.", ".networks.")


def test_what_tasks_share_is_an_alias(tmp_path):
    found = weights.read(saved(model_files.make_checkpoint("multi-task"), tmp_path))
    assert found.branches == ["alloy", "metal"]
    shared = {name for name in found.aliases if name.startswith("model.metal.") and "._networks." not in name}
    assert shared
    assert all(".descriptor." in name for name in shared)
    assert all(found.aliases[name] == name.replace("metal", "alloy", 1) for name in shared)


def test_copies_are_told_by_their_bytes(water, tmp_path):
    copied = {name: value.clone() if torch.is_tensor(value) else value for name, value in water["model"].items()}
    found = weights.read(saved({"model": copied}, tmp_path))
    assert found.aliases == weights.read(saved(water, tmp_path)).aliases
    assert found.form == "checkpoint without optimizer"


@pytest.mark.parametrize("form", ["object", "text"])
def test_a_checkpoint_of_cairns_brings_its_config_and_seeds(water, tmp_path, form):
    config = {"model": {"type_map": ["Cu"]}}
    own = {
        "format": 1, "step": 40, "versions": {"deepmd-kit": "3.2.0"}, "seed": 7, "seeds": {"training": 8},
        "config": config if form == "object" else json.dumps(config),
    }  # fmt: skip
    found = weights.read(saved(water | {"cairn": own}, tmp_path))
    assert (found.form, found.step, found.library) == ("Cairn checkpoint", 40, "deepmd-kit 3.2.0")
    assert (found.config, found.seed, found.seeds) == (config, 7, {"training": 8})


def test_an_older_checkpoint_of_cairns_has_no_config(water, tmp_path):
    found = weights.read(saved(water | {"cairn": {"format": 1, "step": 3}}, tmp_path))
    assert (found.step, found.config, found.seed, found.seeds) == (3, None, None, None)


@pytest.mark.parametrize("wrong", [{"config": "[1"}, {"config": 3}, {"seed": "x"}, {"seeds": [1]}, {"step": None}])
def test_what_cairn_could_not_have_written_is_refused(water, tmp_path, wrong):
    own = {"format": 1, "step": 3} | wrong
    assert "What Cairn wrote into this checkpoint cannot be read" in refusal(saved(water | {"cairn": own}, tmp_path))


@pytest.fixture(scope="module")
def alone():
    """A process group of this process only, as distributed training needs it."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def parallel(module):
    return torch.nn.parallel.DistributedDataParallel(module)


def whole(wrapper, *wraps):
    for wrap in wraps:
        wrapper = wrap(wrapper)
    return wrapper


def branches(wrapper, *wraps):
    for name, model in wrapper.model.items():
        wrapper.model[name] = whole(model, *wraps)
    return wrapper


def network(wrapper, *wraps):
    for model in wrapper.model.values():
        model.atomic_model.descriptor = whole(model.atomic_model.descriptor, *wraps)
    return wrapper


@pytest.mark.parametrize(
    ("place", "wraps", "prefixes"),
    [
        (whole, [parallel], ["module"]),
        (whole, [torch.compile], ["_orig_mod"]),
        (whole, [torch.compile, parallel], ["_orig_mod", "module"]),
        (whole, [parallel, torch.compile], ["_orig_mod", "module"]),
        (branches, [torch.compile, parallel], ["_orig_mod", "module"]),
        (network, [torch.compile], ["_orig_mod"]),
    ],
)
def test_what_was_saved_in_a_wrapper_is_itself(alone, place, wraps, prefixes, tmp_path):
    own = model_files.make_wrapper("se_e2_a")
    own.train_infos = {"lr": 0.001, "step": 5}
    plain = weights.read(saved({"model": own.state_dict()}, tmp_path, "plain.pt"))
    found = weights.read(saved({"model": place(own, *wraps).state_dict()}, tmp_path))
    assert found.wrappers == prefixes
    assert plain.wrappers == []
    assert found.tensors.keys() == plain.tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in plain.tensors.items())
    assert (found.aliases, found.model_params, found.step) == (plain.aliases, plain.model_params, plain.step)


def test_a_branch_may_be_called_like_a_wrapper():
    names = ["model.module.x", "module.model.module.x.y", "model.module._orig_mod.z", "_extra_state"]
    state, prefixes = wrappers.unwrapped(dict.fromkeys(names), {"module": {}})
    assert list(state) == ["model.module.x", "model.module.x.y", "model.module.z", "_extra_state"]
    assert prefixes == ["_orig_mod", "module"]


def test_tensors_within_and_without_a_wrapper_are_refused(water, tmp_path):
    name = "model.Default.atomic_model.out_bias"
    both = water["model"] | {f"module.{name}": water["model"][name]}
    assert f"{name!r} twice" in refusal(saved({"model": both}, tmp_path))


def test_what_was_saved_on_a_gpu_is_read_without_one(water, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:1")
    path = saved(water, tmp_path)
    monkeypatch.undo()
    found = weights.read(path)
    assert {tensor.device.type for tensor in found.tensors.values()} == {"cpu"}
    assert found.tensors.keys() == water["model"].keys() - {"_extra_state"}


def test_a_bare_state_dict_with_its_section_is_read(water, tmp_path):
    assert weights.read(saved(water["model"], tmp_path)).tensors.keys() == water["model"].keys() - {"_extra_state"}


def test_torchs_old_format_is_read(water, tmp_path):
    torch.save(water, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert weights.read(tmp_path / "old.pt").tensors.keys() == water["model"].keys() - {"_extra_state"}


# --- refusals ---------------------------------------------------------------------------------------------------------


def safetensors():
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0\0\0\0"


def tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pt"))
    return buffer.getvalue()


def hdf5():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["model"] = [1.0]
    return buffer.getvalue()


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"\n\x1c\n\x05t_box\x12\x0bPlaceholder" + b"\0" * 90, "TensorFlow backend", id="pb"),
        pytest.param(b'model_checkpoint_path: "model.ckpt-100"\n', "TensorFlow", id="checkpoint list"),
        pytest.param(b"\0" * 40 + bytes.fromhex("57fb808b247547db"), "TensorFlow checkpoint", id="index"),
        pytest.param(b'{"model": {"type_map": ["O"]}}', "JSON", id="json"),
        pytest.param(b"#!/bin/sh\necho hello\n", "text, beginning with '#!/bin/sh", id="text"),
        pytest.param(bytes(range(256)) * 9, "no kind known", id="binary"),
        pytest.param(safetensors(), "safetensors", id="safetensors"),
        pytest.param(tar(), "tar archive", id="tar"),
        pytest.param(hdf5(), "HDF5", id="hdf5"),
        pytest.param(npz(), "NumPy archive", id="npz"),
        pytest.param(b"\x1f\x8b\x08" + b"\0" * 20, "gzip", id="gzip"),
        pytest.param(zipped(model__extra__model_def_script_json=b"{}").replace(b"_json", b".json"), ".pt2", id="pt2"),
        pytest.param(zipped(a__b=b"x"), "not one that torch wrote: it holds a/b", id="zip"),
        pytest.param(pickle.dumps({"model": {}}, protocol=2), "no checkpoint|damaged", id="pickle"),
    ],
)
def test_what_is_no_weights_is_named(content, words, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert re.search(words, refusal(path))


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_file_that_was_cut_off_is_refused(water, tmp_path, share):
    path = saved(water, tmp_path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "cut off or damaged" in refusal(path)


def test_damage_inside_is_refused(water, tmp_path):
    for path in (saved(water, tmp_path), model_files.freeze(water, tmp_path / "frozen.pth")):
        data = bytearray(path.read_bytes())
        at = data.find(b"data.pkl") + 200
        data[at : at + 400] = bytes(400)
        path.write_bytes(data)
        assert re.search("damaged|no checkpoint", refusal(path))


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return (exec, (f"open({str(self._path)!r}, 'w')",))


@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_checkpoint_is_named_and_not_run(water, tmp_path, new_format):
    trap = water | {"more": Trap(tmp_path / "sprung")}
    torch.save(trap, tmp_path / "model.pt", _use_new_zipfile_serialization=new_format)
    assert "exec' when it is opened" in refusal(tmp_path / "model.pt")
    assert not (tmp_path / "sprung").exists()


def test_code_in_a_frozen_model_is_named_and_not_run(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pth", "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps(Trap(tmp_path / "sprung"), protocol=2))
        archive.writestr("m/constants.pkl", b"")
    assert "exec" in refusal(tmp_path / "model.pth")
    assert not (tmp_path / "sprung").exists()


def test_a_frozen_model_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pth", "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("m/constants.pkl", b"")
    assert "no frozen DeePMD-kit model" in refusal(tmp_path / "model.pth")


def test_a_tensor_beyond_its_storage_is_refused(water, tmp_path):
    path = model_files.freeze(water, tmp_path / "whole.pth")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "short.pth", "w") as target:
        for name in source.namelist():
            target.writestr(name, b"" if name.endswith("/data/3") else source.read(name))
    assert "damaged" in refusal(tmp_path / "short.pth")


def test_a_zip_bomb_is_refused_unopened(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"")
        archive.writestr("m/data/0", bytes(300 << 20))
    assert (tmp_path / "bomb.pt").stat().st_size < 1 << 20
    assert "would unpack to" in refusal(tmp_path / "bomb.pt")


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "MAX_MEMBERS", 3)
    (tmp_path / "m.pt").write_bytes(zipped(a=b"", b=b"", c=b"", d=b""))
    assert "4 members" in refusal(tmp_path / "m.pt")


def test_a_plain_state_dict_says_so(water, tmp_path):
    plain = {name: value for name, value in water["model"].items() if name != "_extra_state"}
    assert "plain state dict of 74 tensors" in refusal(saved(plain, tmp_path))
    assert "plain state dict" in refusal(saved({"model": plain}, tmp_path))


def test_other_things_that_torch_wrote_are_refused(tmp_path):
    assert "holds a list instead" in refusal(saved([1, 2], tmp_path))
    assert "'epoch'" in refusal(saved({"epoch": 3}, tmp_path))


def test_numbers_that_are_not_finite_are_named(water, tmp_path):
    name = "model.Default.atomic_model.out_bias"
    bad = water["model"] | {name: torch.full_like(water["model"][name], float("nan"))}
    assert name in refusal(saved({"model": bad}, tmp_path))


def test_tensors_of_no_model_are_refused(water, tmp_path):
    assert "'loss.weight'" in refusal(saved({"model": water["model"] | {"loss.weight": torch.ones(1)}}, tmp_path))
    other = {"model.Other.x": torch.ones(1)}
    assert "'model.Other.x'" in refusal(saved({"model": water["model"] | other}, tmp_path))
    text = {"model.Default.x": "text"}
    assert "not a plain tensor, but str" in refusal(saved({"model": water["model"] | text}, tmp_path))
