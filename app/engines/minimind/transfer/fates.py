"""What becomes of one tensor of a MiniMind model: of the new one, or of the base alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

from app.engines.minimind.model import EMBEDDING, HEAD, Axis, Place, axes, completed
from app.engines.transfer.refusals import Deviation, Kind, values
from app.engines.transfer.sections import Section
from app.wire.models import TensorFacts
from app.wire.transfer import PlannedTensor

Json = Any

_VOCABULARY: Axis = ("vocab_size",)
_GROWING: tuple[Axis, ...] = (_VOCABULARY, ("num_experts",))
"""What first axes may be longer or shorter by: rows of one token, or of one expert, that know nothing of the others."""

_FIXED = frozenset({"hidden_size", "use_moe"})
"""Keys of which another value leaves nothing that could be taken from a base."""

_HEAD_NORMS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")


@dataclass
class Fate:
    """A planned tensor, and why it is not simply copied where that needs leave."""

    tensor: PlannedTensor
    deviation: Deviation | None = None


@dataclass
class Pair:
    """The new model's section, and the base's."""

    section: Section
    base: Mapping[str, Json]
    tensors: Mapping[str, TensorFacts]
    """The base's tensors by name, also by the names that are aliases."""
    base_name: str
    used: set[str] = field(default_factory=set)
    """The base's tensors that a tensor of the new model comes from; names that are no aliases."""
    _reshaped: dict[str, Deviation] = field(default_factory=dict, repr=False)

    @cached_property
    def _axes(self) -> dict[str, tuple[Axis, ...]]:
        return dict(axes(completed(self.section.model)))

    def fate(self, tensor: TensorFacts) -> Fate:
        """Return what becomes of a tensor of the new model, and remember what it uses."""
        planned = _planned(tensor)
        source = self._source(tensor.name)
        if source is None:
            planned.verb = "reinitialised"
            return self._explained(planned, self._absent(Place.parse(tensor.name)))
        planned.source, planned.source_shape = source.name, source.shape
        if source.shape == tensor.shape:
            planned.kept = prod(tensor.shape)
            self.used.add(source.name)
            return Fate(planned)
        return self._of_another_shape(planned, source)

    def _source(self, name: str) -> TensorFacts | None:
        """Return the base's counterpart of a tensor; a head that the base has not on its own is its embedding."""
        found = self.tensors.get(name)
        if found is None and name == HEAD and self.base["tie_word_embeddings"]:
            found = self.tensors.get(EMBEDDING)
        return self.tensors.get(found.alias_of) if found and found.alias_of else found

    def _of_another_shape(self, planned: PlannedTensor, source: TensorFacts) -> Fate:
        differing = self._differing_axes(planned.name, planned.shape, source.shape)
        keys = [key for _, axis in differing for key in axis if self.section.model.get(key) != self.base.get(key)]
        if len(differing) == 1 and differing[0][0] == 0 and differing[0][1] in _GROWING:
            rows, had = planned.shape[0], source.shape[0]
            planned.verb = "sliced" if rows < had else "padded"
            planned.kept = prod(planned.shape) // rows * min(rows, had)
            self.used.add(source.name)
            kind: Kind = "types" if differing[0][1] == _VOCABULARY else "layer"
            return self._explained(planned, keys, kind, source)
        planned.verb, planned.source = "reinitialised", None
        fate = self._explained(planned, keys, counterpart=source)
        if fate.deviation:
            self._reshaped[source.name] = fate.deviation
        return fate

    def _differing_axes(self, name: str, new: Sequence[int], base: Sequence[int]) -> list[tuple[int, Axis]]:
        found = self._axes.get(name, ())
        if not len(found) == len(new) == len(base):
            return []
        return [(place, axis) for place, axis in enumerate(found) if new[place] != base[place]]

    def _absent(self, place: Place) -> list[str]:
        """Return the keys that decide whether a model has a tensor, where the two models differ in them."""
        layers = min(self.section.model["num_hidden_layers"], self.base["num_hidden_layers"])
        if place.layer is not None and place.layer >= layers:
            return ["num_hidden_layers"]
        if place.expert is not None:
            return ["num_experts"]
        if place.leaf in _HEAD_NORMS:
            return ["family"]
        return ["tie_word_embeddings"] if place.leaf == HEAD else []

    def unused(self, tensor: TensorFacts) -> Fate:
        """Return the fate of a tensor that the new model does not take from the base."""
        planned = _planned(tensor)
        planned.verb = "unused"
        reshaped = self._reshaped.get(tensor.name)
        if reshaped is not None:
            planned.reason, planned.key = values(reshaped, self.base_name), self._key(reshaped.keys)
            return Fate(planned, reshaped)
        return self._explained(planned, self._absent(Place.parse(tensor.name)))

    def _explained(
        self, planned: PlannedTensor, keys: Sequence[str], kind: Kind = "layer", counterpart: TensorFacts | None = None
    ) -> Fate:
        """Return the fate of a tensor that other values of these keys keep from being copied."""
        differing = [key for key in dict.fromkeys(keys) if self.section.model.get(key) != self.base.get(key)]
        kind = "fixed" if _FIXED.intersection(differing) else kind
        places = tuple(f"/{key}" for key in differing)
        deviation = Deviation(kind, self.section, places, tuple(self.base.get(key) for key in differing), counterpart)
        planned.reason, planned.key = values(deviation, self.base_name), self._key(places)
        return Fate(planned, deviation)

    def _key(self, places: Sequence[str]) -> str | None:
        return self.section.pointer(places[0]) if places else None


def _planned(tensor: TensorFacts) -> PlannedTensor:
    return PlannedTensor(
        name=tensor.name,
        verb="copied",
        component=Place.parse(tensor.name).component,
        shape=tensor.shape,
        dtype=tensor.dtype,
        is_parameter=tensor.is_parameter is not False,
    )
