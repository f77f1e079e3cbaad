"""Tiny models of every descriptor built directly, with their inventories and facts: no data, no training."""

import copy
import json

import torch
from deepmd.pt.model.model import get_model
from deepmd.pt.train.wrapper import ModelWrapper
from deepmd.utils.argcheck import normalize

from app.engines.base import Base
from app.engines.deepmd.base_layer import ONE_SEL_PER_TYPE
from app.engines.deepmd.transfer.names import Name, descriptor_of
from app.wire.models import BaseFacts, BranchFacts, Inventory, TensorFacts

TYPED = {"rcut": 4.0, "rcut_smth": 0.5, "neuron": [4, 8], "exclude_types": [[0, 1]]}
DESCRIPTORS = {
    "se_e2_a": {"type": "se_e2_a", **TYPED, "axis_neuron": 3, "type_one_side": False},
    "se_e2_a, one side": {"type": "se_e2_a", **TYPED, "axis_neuron": 3, "type_one_side": True},
    "se_e2_r": {"type": "se_e2_r", **TYPED},
    "se_e3": {"type": "se_e3", "rcut": 4.0, "rcut_smth": 0.5, "neuron": [2, 4]},
    "se_e3_tebd": {
        "type": "se_e3_tebd", "rcut": 4.0, "rcut_smth": 0.5, "sel": 20, "neuron": [2, 4], "tebd_dim": 3,
        "exclude_types": [[0, 1]],
    },
    "se_atten": {
        "type": "se_atten", "sel": 30, **TYPED, "axis_neuron": 2, "attn": 4, "attn_layer": 1, "tebd_dim": 4,
        "use_tebd_bias": True,
    },
    "se_atten, electron configuration": {
        "type": "se_atten", "sel": 30, **TYPED, "axis_neuron": 2, "attn_layer": 0, "tebd_dim": 3, "use_econf_tebd": True,
    },
    "se_atten_v2": {
        "type": "se_atten_v2", "sel": 30, **TYPED, "axis_neuron": 2, "attn": 4, "attn_layer": 1, "tebd_dim": 2,
    },
    "dpa2": {
        "type": "dpa2", "exclude_types": [[0, 1]],
        "repinit": {
            "tebd_dim": 6, "rcut": 4.0, "rcut_smth": 0.5, "nsel": 30, "neuron": [4, 8], "axis_neuron": 2, "use_three_body": True,
            "three_body_sel": 10, "three_body_rcut": 3.0, "three_body_rcut_smth": 0.5, "three_body_neuron": [2, 4],
        },
        "repformer": {
            "rcut": 3.5, "rcut_smth": 0.5, "nsel": 20, "nlayers": 2, "g1_dim": 8, "g2_dim": 4, "attn2_hidden": 4,
            "attn2_nhead": 2, "attn1_hidden": 8, "attn1_nhead": 2, "axis_neuron": 2,
        },
    },
    "dpa3": {
        "type": "dpa3", "exclude_types": [[0, 1]],
        "repflow": {
            "n_dim": 6, "e_dim": 4, "a_dim": 4, "nlayers": 2, "e_rcut": 4.0, "e_rcut_smth": 0.5, "e_sel": 30,
            "a_rcut": 3.0, "a_rcut_smth": 0.5, "a_sel": 10, "axis_neuron": 2,
        },
    },
    "hybrid": {
        "type": "hybrid",
        "list": [{"type": "se_e2_a", **TYPED, "axis_neuron": 3}, {"type": "se_e3", "rcut": 4.0, "neuron": [2, 4]}],
    },
    "hybrid, mixed": {
        "type": "hybrid",
        "list": [
            {"type": "se_e2_a", **TYPED, "axis_neuron": 3},
            {"type": "se_atten", "sel": 30, **TYPED, "axis_neuron": 2, "attn_layer": 0, "tebd_dim": 3},
        ],
    },
}  # fmt: skip
SLOTS = {"O": 14, "H": 22, "C": 9, "Si": 7}
"""Unequal numbers of neighbour slots, so that a mistaken block shows."""


def descriptor(kind, type_map):
    """Return a descriptor's section, its `sel` and `exclude_types` written for a type map."""
    section = copy.deepcopy(DESCRIPTORS[kind])
    for part in section.get("list", [section]):
        if part["type"] in ("se_e2_a", "se_e2_r", "se_e3"):
            part["sel"] = [SLOTS[name] for name in type_map]
        if "exclude_types" in part:
            known = {"O", "H"} <= set(type_map)
            part["exclude_types"] = [sorted((type_map.index("O"), type_map.index("H")))] if known else []
    return section


def config(kind, type_map, **model):
    """Return a normalised config in float64."""
    section = {"type_map": list(type_map), "descriptor": descriptor(kind, type_map), "fitting_net": {"neuron": [6, 6]}}
    document = {
        "model": {**section, **copy.deepcopy(model)},
        "learning_rate": {"start_lr": 0.001}, "loss": {"type": "ener"},
        "training": {"training_data": {"systems": ["dataset:a@1/a"]}, "numb_steps": 3},
    }  # fmt: skip
    _seed(document["model"])
    return normalize(document)


def _seed(model):
    for part in [*model["descriptor"].get("list", [model["descriptor"]]), model["fitting_net"]]:
        part["seed"] = 7


def build(document):
    """Return the model of a config in DeePMD's wrapper."""
    torch.manual_seed(0)
    return ModelWrapper(get_model(copy.deepcopy(document["model"])))


def stir(wrapper, document):
    """Give a model random weights, and statistics and biases: other numbers for every pair of types."""
    generator = torch.Generator().manual_seed(3)

    def random(shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        for _, parameter in sorted(wrapper.named_parameters()):
            parameter.add_(2.0 * (random(parameter.shape) - 0.5))
        for name, buffer in sorted(wrapper.named_buffers()):
            if name.endswith((".mean", ".stddev")):
                _stir_statistics(buffer, Name.parse(name), document["model"], random)
            elif name.endswith(("out_bias", "bias_atom_e")):
                buffer.copy_(random(buffer.shape))
    return wrapper


def _stir_statistics(buffer, name, model, random):
    """Fill a buffer by centre type, block of slots and kind of entry; the directions have no mean."""
    section = descriptor_of(name, model)
    blocks = section["sel"] if section["type"] in ONE_SEL_PER_TYPE else [buffer.shape[1]]
    numbers = random((buffer.shape[0], len(blocks), buffer.shape[2]))
    if name.leaf == "mean":
        numbers *= 0.1
        numbers[..., 1:] = 0.0
    else:
        numbers += 0.5
    buffer.copy_(numbers.repeat_interleave(torch.tensor(blocks), dim=1))


def tensors_of(wrapper):
    return {name: value for name, value in wrapper.state_dict().items() if torch.is_tensor(value)}


def aliases_of(wrapper):
    """Return which names stand for another's memory: the first in order, not under `_networks`, counts."""
    firsts, aliases = {}, {}
    for name, value in sorted(tensors_of(wrapper).items(), key=lambda item: ("._networks." in item[0], item[0])):
        if value.numel():
            first = firsts.setdefault((value.untyped_storage().data_ptr(), value.storage_offset(), value.shape), name)
            if first != name:
                aliases[name] = first
    return aliases


def facts_of_tensors(wrapper):
    parameters = {name for name, _ in wrapper.named_parameters(remove_duplicate=False)}
    aliases = aliases_of(wrapper)
    return [
        TensorFacts(
            name=name, shape=list(value.shape), dtype=str(value.dtype).removeprefix("torch."),
            is_parameter=name in parameters, alias_of=aliases.get(name),
        )
        for name, value in tensors_of(wrapper).items()
    ]  # fmt: skip


def inventory(wrapper):
    return Inventory(tensors=facts_of_tensors(wrapper))


def base(document, wrapper, name="water@3"):
    model = json.loads(json.dumps(document["model"]))
    branches = [BranchFacts(name="", type_map=model["type_map"], model=model, parameters=0)]
    facts = BaseFacts(
        engine="deepmd", form="checkpoint", architecture="?", branches=branches, tensors=facts_of_tensors(wrapper),
        parameters=0,
    )  # fmt: skip
    return Base(name=name, sha256="5" * 64, facts=facts)


def energy_and_forces(wrapper, type_map, elements, coordinates, box):
    """Return energy and forces of one frame; `elements` are names of types."""
    types = torch.tensor([[type_map.index(name) for name in elements]])
    model = wrapper.model["Default"]
    found = model(coordinates.reshape(1, -1, 3), types, box=box.reshape(1, 9))
    return found["energy"].detach(), found["force"].detach()
