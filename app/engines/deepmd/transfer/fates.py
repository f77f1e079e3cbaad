"""What becomes of one tensor: of the new model, or of the base alone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

from app.engines.deepmd.transfer.changes import function_changes
from app.engines.deepmd.transfer.keys import Difference, differences, responsible
from app.engines.deepmd.transfer.maps import (
    NEW,
    Side,
    Types,
    adds_input,
    axis_maps,
    kept,
    network_axes,
    network_types,
    source_name,
)
from app.engines.deepmd.transfer.names import OUTPUT_BIAS, SINGLE, Name, descriptor_of
from app.engines.documents import short
from app.engines.transfer.refusals import Deviation, Kind, values
from app.engines.transfer.sections import Section
from app.wire.models import BranchFacts, TensorFacts
from app.wire.transfer import AxisMap, FunctionChange, PlannedTensor

Json = Any
NEW_FITTING = "fitting: new"


@dataclass
class Fate:
    """A planned tensor, and why it is not simply copied where that needs leave."""

    tensor: PlannedTensor
    deviation: Deviation | None = None


@dataclass
class Pair:
    """One task of the new model, and the branch of the base that it starts from."""

    section: Section
    branch: BranchFacts
    tensors: Mapping[str, TensorFacts]
    """The branch's tensors, by their full names."""
    base_name: str
    mode: str
    is_new_fitting: bool
    _said: dict[tuple[str, ...], str] = field(default_factory=dict, repr=False)

    @cached_property
    def types(self) -> Types:
        """The types of both."""
        return Types(tuple(self.section.model["type_map"]), tuple(self.branch.model["type_map"]))

    @cached_property
    def _other_types(self) -> str:
        return f"the type map {short(list(self.types.new))} instead of {short(list(self.types.base))}"

    @cached_property
    def found(self) -> list[Difference]:
        """What the two model sections do not have in common."""
        return differences(self.section, self.branch.model)

    @cached_property
    def _base_values(self) -> dict[str, Json]:
        return {item.at: item.base for item in self.found} | {"/type_map": list(self.types.base)}

    @property
    def _measures_neighbours(self) -> bool:
        return any(isinstance(value, str) and value.startswith("auto") for value in self.section.values.values())

    def function_changes(self, shaping: Collection[str]) -> list[FunctionChange]:
        """Return what makes another function of the same weights; places in `shaping` have shown in shapes already."""
        return function_changes(
            self.section,
            self.branch.model,
            self.found,
            self.types,
            base_name=self.base_name,
            shaping=shaping,
            is_new_fitting=self.is_new_fitting,
        )

    def fate(self, tensor: TensorFacts, name: Name) -> Fate:
        """Return what becomes of a tensor of the new model."""
        planned = self._planned(tensor, name)
        if self.is_new_fitting and name.section == "/fitting_net":
            return Fate(_changed(planned, verb="reinitialised", reason=NEW_FITTING))
        if name.leaf == "min_nbor_dist":
            return self._smallest_distance(planned, name)
        source = self._source(name)
        if name.leaf in OUTPUT_BIAS and (self.mode == "finetune" or self.is_new_fitting):
            return self._refitted(planned, name, source)
        if prod(tensor.shape) == 0:
            return Fate(_placeholder(planned, source))
        return self._from(planned, name, source)

    def _planned(self, tensor: TensorFacts, name: Name) -> PlannedTensor:
        return PlannedTensor(
            name=tensor.name,
            verb="copied",
            component=name.component,
            branch=self.section.task,
            shape=tensor.shape,
            dtype=tensor.dtype,
            is_parameter=name.is_parameter if tensor.is_parameter is None else tensor.is_parameter,
        )

    def _source(self, name: Name) -> TensorFacts | None:
        """Return the base's counterpart of a tensor of the new model, whatever its shape."""
        if not self._corresponds(name):
            return None
        found = source_name(name, self.section.model, self.types)
        if found is None:
            return None
        return self.tensors.get(str(Name(self.branch.name or SINGLE, found.path)))

    def _corresponds(self, name: Name) -> bool:
        """Return whether equal names mean equal things: the descriptor is of one type, and networks are shared alike."""
        if name.section.startswith("/descriptor"):
            ours, theirs = (descriptor_of(name, model) for model in (self.section.model, self.branch.model))
            if ours.get("type") != theirs.get("type") or self._top_types_differ:
                return False
        return network_axes(name, self.section.model) == network_axes(name, self.branch.model)

    @property
    def _top_types_differ(self) -> bool:
        return bool(self.section.model["descriptor"]["type"] != self.branch.model["descriptor"]["type"])

    def _from(self, planned: PlannedTensor, name: Name, source: TensorFacts | None) -> Fate:
        """Return the fate of a tensor whose numbers should come from the base."""
        if source is None:
            return self._without_source(planned, name)
        maps = self._maps(planned, name, source)
        if maps is None:
            return self._reshaped(planned, name, source)
        planned.source, planned.source_shape = source.name, source.shape
        planned.kept = kept(planned.shape, maps)
        planned.reason = _converted(source.dtype, planned.dtype)
        if not maps and source.name == str(Name(self.branch.name or SINGLE, name.path)):
            return Fate(planned)
        return self._remapped(planned, name, source, maps)

    def _maps(self, planned: PlannedTensor, name: Name, source: TensorFacts) -> list[AxisMap] | None:
        new, base = Side(name, self.section.model, planned.shape), Side(name, self.branch.model, source.shape)
        return axis_maps(new, base, self.types)

    def _remapped(self, planned: PlannedTensor, name: Name, source: TensorFacts, maps: list[AxisMap]) -> Fate:
        """Return the fate of a tensor whose numbers stand elsewhere in the base."""
        planned.verb, planned.maps = "remapped", maps
        keys: tuple[str, ...] = ("/type_map",)
        if self.types.are_same:
            keys = tuple(
                item.at for item in self.found if item.key.endswith("sel") and item.at.startswith(name.section)
            )
            why = "the neighbour slots differ, and the statistics are the same for all slots of a neighbour type"
        else:
            planned.adds_input = adds_input(name, self.section.model)
            why = self._other_types
            if any(NEW in item.indices for item in maps):
                why += f"; new: {', '.join(self.types.added)}"
        planned.key = self.section.pointer(keys[0]) if keys else None
        planned.reason = "; ".join(filter(None, [planned.reason, why]))
        return Fate(planned, self._deviation("types", keys, source))

    def _without_source(self, planned: PlannedTensor, name: Name) -> Fate:
        planned.verb = "reinitialised"
        if self._corresponds(name) and source_name(name, self.section.model, self.types) is None:
            kinds = network_types(name, self.section.model, self.types.new)
            planned.reason = f"a network of {'-'.join(kinds)}: {self.base_name} has no {self._added(kinds)}"
            planned.key = self.section.pointer("/type_map")
            return Fate(planned, self._deviation("types", ("/type_map",)))
        return self._by_keys(planned, name)

    def _added(self, kinds: tuple[str, ...]) -> str:
        return " and no ".join(dict.fromkeys(kind for kind in kinds if kind in self.types.added))

    def _reshaped(self, planned: PlannedTensor, name: Name, source: TensorFacts) -> Fate:
        planned.verb, planned.source_shape = "reinitialised", source.shape
        return self._by_keys(planned, name, source)

    def _by_keys(self, planned: PlannedTensor, name: Name, counterpart: TensorFacts | None = None) -> Fate:
        """Return the fate of a tensor that other values of some keys keep from being copied."""
        shapes = (planned.shape, counterpart.shape) if counterpart else None
        keys = tuple(responsible(name, shapes, self.found))
        kind: Kind = "output" if shapes and self._is_output(name) else "layer"
        deviation = self._deviation(kind, keys, counterpart)
        planned.key = self.section.pointer(keys[0]) if keys else None
        planned.reason = self._in_words(deviation)
        return Fate(planned, deviation)

    def _in_words(self, deviation: Deviation) -> str:
        """Return the keys responsible and both values; thousands of tensors may have the same."""
        known = self._said.get(deviation.keys)
        if known is None:
            known = self._said[deviation.keys] = values(deviation, self.base_name)
        return known

    def _is_output(self, name: Name) -> bool:
        """Return whether a tensor is of the fitting net's last layer in both models."""
        if name.section != "/fitting_net" or name.layer is None:
            return False
        depths = [len(model["fitting_net"]["neuron"]) for model in (self.section.model, self.branch.model)]
        return depths == [name.layer, name.layer]

    def _deviation(self, kind: Kind, keys: tuple[str, ...], counterpart: TensorFacts | None = None) -> Deviation:
        return Deviation(kind, self.section, keys, tuple(map(self._base_values.get, keys)), counterpart)

    def _refitted(self, planned: PlannedTensor, name: Name, source: TensorFacts | None) -> Fate:
        planned.verb = "refit"
        if self.is_new_fitting:
            planned.reason = f"{NEW_FITTING}: set by the statistics of the new data"
            return Fate(planned)
        planned.reason = "changed by the statistics of the new data"
        maps = self._maps(planned, name, source) if source else None
        if source is not None and maps is not None:
            planned.source, planned.source_shape, planned.maps = source.name, source.shape, maps
        return Fate(planned)

    def _smallest_distance(self, planned: PlannedTensor, name: Name) -> Fate:
        source = self._source(name)
        if self._measures_neighbours:
            return Fate(_changed(planned, verb="refit", reason="measured in the new data, as sel is"))
        if source is None:
            return Fate(_changed(planned, verb="reinitialised", reason=f"{self.base_name} does not have it: unknown"))
        planned.source, planned.source_shape, planned.kept = source.name, source.shape, 1
        planned.reason = f"of the data of {self.base_name}: that of the new data is not measured"
        return Fate(planned)

    def unused(self, tensor: TensorFacts, name: Name, reshaped: Deviation | None) -> Fate:
        """Return the fate of a tensor that the new model does not take from the base.

        `reshaped` says why when it has one of the same name and another shape.
        """
        planned = self._planned(tensor, name)
        planned.verb, planned.branch = "unused", self.branch.name
        planned.reason = self._why_unused(tensor, name)
        if planned.reason is not None:
            return Fate(planned)
        if reshaped is not None:
            planned.reason = self._in_words(reshaped)
            planned.key = self.section.pointer(reshaped.keys[0]) if reshaped.keys else None
            return Fate(planned, reshaped)
        if self._corresponds(name) and source_name(name, self.branch.model, self.types.backwards()) is None:
            kinds = network_types(name, self.branch.model, self.types.base)
            planned.reason = f"a network of {'-'.join(kinds)}: the new type map leaves out {self._left_out(kinds)}"
            planned.key = self.section.pointer("/type_map")
            return Fate(planned, self._deviation("types", ("/type_map",)))
        return self._by_keys(planned, name)

    def _why_unused(self, tensor: TensorFacts, name: Name) -> str | None:
        """Return why it does not matter that a tensor is left behind; None when it does."""
        if self.is_new_fitting and name.section == "/fitting_net":
            return NEW_FITTING
        if name.leaf in OUTPUT_BIAS and self.is_new_fitting:
            return f"{NEW_FITTING}: set by the statistics of the new data"
        if name.leaf == "min_nbor_dist":
            return "the smallest distance is measured in the new data"
        if prod(tensor.shape) == 0:
            return "an empty place for the table of a compressed model"
        if ".compress_" in name.path or name.leaf == "type_embd_data":
            return "a table of a compressed model; the new one is made from the networks"
        return None

    def _left_out(self, kinds: tuple[str, ...]) -> str:
        return " and ".join(dict.fromkeys(kind for kind in kinds if kind in self.types.left_out))


def _changed(planned: PlannedTensor, **fields: Any) -> PlannedTensor:
    return planned.model_copy(update=fields)


def _placeholder(planned: PlannedTensor, source: TensorFacts | None) -> PlannedTensor:
    """Return the plan of a tensor without numbers."""
    if source is not None and source.shape == planned.shape:
        return _changed(planned, source=source.name, source_shape=source.shape)
    return _changed(planned, verb="reinitialised", reason="an empty place for the table of a compressed model")


def _converted(base: str, new: str) -> str | None:
    return None if base == new else f"converted from {base} to {new}"
