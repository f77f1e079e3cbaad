"""Tensors of models, as DeePMD-kit names and shapes them, without DeePMD-kit: enough of them to plan with.

`tests/worker/engines/deepmd` plans with what DeePMD-kit itself lists.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from app.engines.base import Base
from app.engines.deepmd.base_layer import ONE_SEL_PER_TYPE
from app.engines.deepmd.transfer.names import is_mixed
from app.engines.deepmd.transfer.sections import sections
from app.wire.models import BaseFacts, BranchFacts, Inventory, TensorFacts
from tests.app.engines.deepmd.support import _branch

Json = Any
Shapes = Iterator[tuple[str, list[int]]]
BUFFERS = ("mean", "stddev", "out_bias", "out_std", "bias_atom_e", "min_nbor_dist")


def inventory(config: Mapping[str, Json]) -> Inventory:
    """Return the tensors of a resolved config's model; tasks share what they name in `shared_dict`."""
    firsts: dict[str, str] = {}
    found = []
    for task, section in sections(config).items():
        homes = {at: place for at, place in section.places.items() if at in ("/descriptor", "/fitting_net")}
        for path, shape in sorted(model_shapes(section.model)):
            part = "/descriptor" if ".descriptor." in path else "/fitting_net"
            name = f"model.{task or 'Default'}.{path}"
            first = firsts.setdefault(homes[part] + path, name) if part in homes else name
            found.append(_facts(name, shape, section.model, None if first == name else first))
    return Inventory(tensors=[fact for item in found for fact in _twice(item)])


def base(name: str, models: Mapping[str, Mapping[str, Json]]) -> Base:
    """Return a base of model sections by branch; branches whose descriptors are equal share them."""
    branches = [_branch(branch, dict(section)) for branch, section in models.items()]
    facts = BaseFacts(
        engine="deepmd",
        form="checkpoint",
        architecture="",
        branches=branches,
        tensors=list(_shared(branches)),
        parameters=0,
    )
    return Base(name, "5" * 64, facts)


def _shared(branches: list[BranchFacts]) -> Iterator[TensorFacts]:
    firsts: dict[str, str] = {}
    for branch in branches:
        for path, shape in sorted(model_shapes(branch.model)):
            name = f"model.{branch.name or 'Default'}.{path}"
            is_shared = ".descriptor." in path and branch.model["descriptor"] == branches[0].model["descriptor"]
            first = firsts.setdefault(path, name) if is_shared else name
            yield from _twice(_facts(name, shape, branch.model, None if first == name else first))


def _facts(name: str, shape: list[int], model: Mapping[str, Json], alias_of: str | None) -> TensorFacts:
    part = model["fitting_net" if ".fitting_net." in name else "descriptor"]
    is_parameter = name.rpartition(".")[2] not in BUFFERS
    dtype = part.get("precision", "default") if is_parameter else "default"
    return TensorFacts(
        name=name,
        shape=shape,
        dtype={"default": "float64"}.get(dtype, dtype),
        is_parameter=is_parameter,
        alias_of=alias_of,
    )


def _twice(tensor: TensorFacts) -> Iterator[TensorFacts]:
    """DeePMD-kit lists the networks of a collection under two names."""
    yield tensor
    if ".networks." in tensor.name:
        name = tensor.name.replace(".networks.", "._networks.")
        yield tensor.model_copy(update={"name": name, "alias_of": tensor.alias_of or tensor.name})


def model_shapes(model: Mapping[str, Json]) -> Shapes:
    """Yield path and shape of every tensor of a model section."""
    types, descriptor, fitting = len(model["type_map"]), model["descriptor"], model["fitting_net"]
    yield "min_nbor_dist", []
    yield from ((f"atomic_model.{name}", [1, types, 1]) for name in ("out_bias", "out_std"))
    yield from _descriptor("atomic_model.descriptor.", descriptor, types)
    yield "atomic_model.fitting_net.bias_atom_e", [types, 1]
    inputs, at = _width(descriptor), "atomic_model.fitting_net.filter_layers.networks"
    for number in range(1 if is_mixed(descriptor) else types):
        yield from _network(f"{at}.{number}", inputs, [*fitting["neuron"], 1], is_resnet=fitting["resnet_dt"])


def _descriptor(at: str, section: Mapping[str, Json], types: int) -> Shapes:
    if section["type"] == "hybrid":
        for number, member in enumerate(section["list"]):
            yield from _descriptor(f"{at}descrpt_list.{number}.", member, types)
    elif section["type"] in ONE_SEL_PER_TYPE:
        yield from _typed(at + {"se_e2_a": "sea.", "se_e3": "seat.", "se_e2_r": ""}[section["type"]], section, types)
    elif section["type"] == "dpa3":
        yield from _dpa3(at, section["repflow"], types)
    else:
        yield from _attention(at, section, types)


def _typed(at: str, section: Mapping[str, Json], types: int) -> Shapes:
    width = 1 if section["type"] == "se_e2_r" else 4
    yield from ((f"{at}{name}", [types, sum(section["sel"]), width]) for name in ("mean", "stddev"))
    pairs = section["type"] == "se_e3" or (section["type"] == "se_e2_a" and not section["type_one_side"])
    for number in range(types ** (2 if pairs else 1)):
        yield from _network(f"{at}filter_layers.networks.{number}", 1, section["neuron"], is_resnet=False)
        yield from ((f"{at}compress_{name}.{number}", [0]) for name in ("info", "data"))


def _attention(at: str, section: Mapping[str, Json], types: int) -> Shapes:
    sel = section["sel"]
    slots = sum(sel) if isinstance(sel, list) else sel
    tebd, width = section["tebd_dim"], section["neuron"][-1]
    yield f"{at}type_embedding.embedding.embedding_net.layers.0.matrix", [types, tebd]
    yield from ((f"{at}se_atten.{name}", [types, slots, 4]) for name in ("mean", "stddev"))
    yield from _network(f"{at}se_atten.filter_layers.networks.0", 1 + 2 * tebd, section["neuron"], is_resnet=False)
    for number in range(section["attn_layer"]):
        yield f"{at}se_atten.dpa1_attention.attention_layers.{number}.in_proj.matrix", [width, 3 * section["attn"]]


def _dpa3(at: str, section: Mapping[str, Json], types: int) -> Shapes:
    nodes, edges = section["n_dim"], section["e_dim"]
    yield f"{at}type_embedding.embedding.embedding_net.layers.0.matrix", [types, nodes]
    yield from ((f"{at}repflows.{name}", [types, section["e_sel"], 4]) for name in ("mean", "stddev"))
    yield f"{at}repflows.edge_embd.matrix", [1, edges]
    for number in range(section["nlayers"]):
        yield f"{at}repflows.layers.{number}.node_self_mlp.matrix", [nodes, nodes]
        yield f"{at}repflows.layers.{number}.edge_self_linear.matrix", [2 * nodes + edges, edges]


def _network(at: str, inputs: int, neurons: list[int], *, is_resnet: bool) -> Shapes:
    for number, width in enumerate(neurons):
        yield f"{at}.layers.{number}.matrix", [inputs, width]
        yield f"{at}.layers.{number}.bias", [width]
        if is_resnet and width in (inputs, 2 * inputs):
            yield f"{at}.layers.{number}.idt", [width]
        inputs = width


def _width(section: Mapping[str, Json]) -> int:
    """Return the number of values that a descriptor hands to the fitting net."""
    kind = section["type"]
    if kind == "hybrid":
        return sum(_width(member) for member in section["list"])
    if kind == "dpa3":
        return int(section["repflow"]["n_dim"])
    width = int(section["neuron"][-1])
    if kind in ("se_e2_r", "se_e3"):
        return width
    return width * int(section["axis_neuron"]) + (int(section["tebd_dim"]) if kind == "se_atten" else 0)
