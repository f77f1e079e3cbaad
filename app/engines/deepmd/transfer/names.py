"""What the name of a tensor tells: to which part of a model it belongs, and which network of a collection it is in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.engines.deepmd.base_layer import ONE_SEL_PER_TYPE

Json = Any

_BRANCH = re.compile(r"model\.([^.]+)\.(.+)", re.DOTALL)
_NETWORK = re.compile(r"(\.(?:filter_layers(?:_strip)?\.networks|compress_info|compress_data)\.)(\d+)(?=\.|$)")
_MEMBER = re.compile(r"descrpt_list\.(\d+)\.(.+)")
_LAYER = re.compile(r"layers\.(\d+)\.")
_SUBSECTIONS = {
    "repinit": "repinit", "repinit_three_body": "repinit", "repformers": "repformer", "repflows": "repflow",
}  # fmt: skip
_BUFFERS = frozenset({"mean", "stddev", "out_bias", "out_std", "bias_atom_e", "min_nbor_dist", "type_embd_data"})

SINGLE = "Default"
"""How names call the branch of a single-task model."""

OUTPUT_BIAS = frozenset({"out_bias", "out_std"})
"""What DeePMD-kit adds to and scales the fitting net's output with, one number per type; refitted together."""


@dataclass(frozen=True)
class Name:
    """A tensor's name, taken apart."""

    branch: str
    path: str
    """Without `model.BRANCH.`."""

    @classmethod
    def parse(cls, text: str) -> "Name":
        """Return the parts of `model.BRANCH.PATH`."""
        match = _BRANCH.fullmatch(text)
        assert match is not None, f"{text!r} is no tensor of a DeePMD model"
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"model.{self.branch}.{self.path}"

    @cached_property
    def leaf(self) -> str:
        """The last part."""
        return self.path.rpartition(".")[2]

    @cached_property
    def member(self) -> int | None:
        """Which member of a hybrid descriptor it belongs to."""
        match = _MEMBER.match(self._in_descriptor)
        return int(match[1]) if match else None

    @cached_property
    def section(self) -> str:
        """Where the keys that shape it stand, as a place in the model section: `/descriptor/repformer`."""
        if self.path.startswith("atomic_model.fitting_net."):
            return "/fitting_net"
        inner = self._in_descriptor
        if not inner:
            return ""
        at = "/descriptor"
        if match := _MEMBER.match(inner):
            at, inner = f"{at}/list/{match[1]}", match[2]
        sub = _SUBSECTIONS.get(inner.partition(".")[0])
        return f"{at}/{sub}" if sub else at

    @cached_property
    def component(self) -> str:
        """The part of the model, as people call it."""
        if self.leaf in OUTPUT_BIAS or self.leaf == "bias_atom_e":
            return "output bias"
        if ".type_embedding." in self.path:
            return "type_embedding"
        if self._in_descriptor:
            return "statistics" if self.leaf in ("mean", "stddev") else "descriptor"
        return "fitting_net" if self.section == "/fitting_net" else "other"

    @property
    def is_parameter(self) -> bool:
        """Whether it is trained, as far as a name tells."""
        return self.leaf not in _BUFFERS and ".compress_" not in self.path

    @cached_property
    def network(self) -> int | None:
        """The number of its network in a collection."""
        match = _NETWORK.search(self.path)
        return int(match[2]) if match else None

    def with_network(self, number: int) -> "Name":
        """Return the name of the same tensor of another network."""
        return Name(self.branch, _NETWORK.sub(rf"\g<1>{number}", self.path))

    @cached_property
    def layer(self) -> int | None:
        """The number of its layer, where it has one; of nested ones the innermost."""
        found = _LAYER.findall(self.path)
        return int(found[-1]) if found else None

    @cached_property
    def _in_descriptor(self) -> str:
        prefix = "atomic_model.descriptor."
        return self.path[len(prefix) :] if self.path.startswith(prefix) else ""


def descriptor_of(name: Name, model: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the descriptor's section that a tensor belongs to: the member's in a hybrid one; empty when none."""
    descriptor: Mapping[str, Json] = model["descriptor"]
    if name.member is None:
        return descriptor
    members = descriptor.get("list", [])
    return members[name.member] if name.member < len(members) else {}


def is_mixed(descriptor: Mapping[str, Json]) -> bool:
    """Return whether all types share networks (deepmd `mixed_types`); then there is one fitting net for all types."""
    if descriptor["type"] == "hybrid":
        return any(is_mixed(member) for member in descriptor["list"])
    return descriptor["type"] not in ONE_SEL_PER_TYPE
