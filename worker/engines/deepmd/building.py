"""Builds DeePMD-kit models from a model section alone: no data, no statistics, on the CPU."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import deepmd
import torch
from deepmd.pt.train.training import get_model_for_wrapper
from deepmd.pt.train.wrapper import ModelWrapper
from deepmd.pt.utils.multi_task import preprocess_shared_params

from app.engines.deepmd.schema import tree
from worker.engines.base import RefusedFile
from worker.engines.deepmd.weights import aliases
from worker.failures import is_out_of_memory

Json = Any
Shape = tuple[int, ...]

_CUTOFF_OF = {
    "sel": "rcut",
    "nsel": "rcut",
    "three_body_sel": "three_body_rcut",
    "e_sel": "e_rcut",
    "a_sel": "a_rcut",
}
"""Keys that may say "auto", with the cutoff within which the neighbours are counted."""
_ONE_SEL_PER_TYPE = frozenset({"se_e2_a", "se_e2_r", "se_e3"})
_PER_ANGSTROM = (100, 4)
"""Neighbours per Å that stand in for "auto". DeePMD-kit wants larger cutoffs to hold more neighbours: many suit beside
written numbers of smaller cutoffs, few beside those of larger ones."""


class Built:
    """A model, or the models of several tasks with what they share."""

    def __init__(self, wrapper: ModelWrapper) -> None:
        state = wrapper.state_dict()
        self.tensors: dict[str, torch.Tensor] = {name: value for name, value in state.items() if torch.is_tensor(value)}
        self.parameters = frozenset(name for name, _ in wrapper.named_parameters(remove_duplicate=False))
        self.aliases = aliases(self.tensors)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Return the shape of every tensor."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


def build(section: Mapping[str, Json]) -> Built:
    """Build the model of a section: missing keys have their defaults, parts in `shared_dict` are shared as in a training.

    Raises:
        RefusedFile: DeePMD-kit cannot build it.
    """
    own = deepcopy(dict(section))
    links: dict[str, Json] = {}
    try:
        if "shared_dict" in own:
            own, links = preprocess_shared_params(own)
        wrapper = ModelWrapper(get_model_for_wrapper(_completed(own)))
        if links:
            # The weights of tasks only matter for statistics, of which there are none.
            wrapper.share_params(links, dict.fromkeys(own["model_dict"], 1.0), resume=True)
    except Exception as error:  # a library says no in every way there is
        if is_out_of_memory(error):
            raise
        message = f"DeePMD-kit {deepmd.__version__} cannot build this model: {type(error).__name__}: {error}"
        raise RefusedFile(message, "Compare its model section with DeePMD-kit's documentation.") from error
    return Built(wrapper)


def _completed(section: dict[str, Json]) -> dict[str, Json]:
    """Return a section with every default: those of the schema, which differ from those of the classes."""
    if "model_dict" in section:
        return {**section, "model_dict": {name: _completed(model) for name, model in section["model_dict"].items()}}
    complete: dict[str, Json] = tree(multi_task=False).sub_fields["model"].normalize_value(section)
    return complete


def build_with_open_shapes(section: Mapping[str, Json]) -> tuple[Built, dict[str, list[int]]]:
    """Build a model whose section may leave numbers of neighbours to the data (`sel: auto`).

    Returns:
        The model, and the shape of each tensor with -1 along the axes that depend on such a number.

    Raises:
        RefusedFile: DeePMD-kit cannot build it.
    """
    if not any(True for _ in _open_places(section)):
        built = build(section)
        return built, {name: list(shape) for name, shape in built.shapes.items()}
    first, per_angstrom = _first_that_builds(section)
    # What differs between two builds that differ in these numbers only depends on them.
    second = build(_filled(section, per_angstrom, more=1)).shapes
    return first, {name: _common(shape, second[name]) for name, shape in first.shapes.items()}


def _first_that_builds(section: Mapping[str, Json]) -> tuple[Built, int]:
    refused: RefusedFile | None = None
    for per_angstrom in _PER_ANGSTROM:
        try:
            return build(_filled(section, per_angstrom, more=0)), per_angstrom
        except RefusedFile as error:
            refused = refused or error
    assert refused is not None, "there is at least one number to try"
    raise refused


def _filled(section: Mapping[str, Json], per_angstrom: int, *, more: int) -> dict[str, Json]:
    """Return the section with a number wherever it says "auto"."""
    filled = deepcopy(dict(section))
    for fill in _open_places(filled):
        fill(per_angstrom, more)
    return filled


def _open_places(section: Mapping[str, Json]) -> Iterator[Callable[[int, int], None]]:
    """Yield, for every "auto", a function that writes a number there."""
    shared = section.get("shared_dict", {})
    for model in section.get("model_dict", {"": section}).values():
        types = model.get("type_map")
        types = shared.get(types) if isinstance(types, str) else types
        yield from _open_below(model.get("descriptor"), len(types or []))
    types_of_all = next((value for value in shared.values() if isinstance(value, list)), [])
    for value in shared.values():
        yield from _open_below(value, len(types_of_all))


def _open_below(value: Json, types: int) -> Iterator[Callable[[int, int], None]]:
    if isinstance(value, list):
        for item in value:
            yield from _open_below(item, types)
    elif isinstance(value, dict):
        for key, member in value.items():
            if key in _CUTOFF_OF and isinstance(member, str):
                yield partial(_write, value, key, types)
            yield from _open_below(member, types)


def _write(holder: dict[str, Json], key: str, types: int, per_angstrom: int, more: int) -> None:
    if holder.get("type") in _ONE_SEL_PER_TYPE:
        holder[key] = [4 + more] * types
    else:
        holder[key] = int(holder.get(_CUTOFF_OF[key], 6.0) * per_angstrom) + more


def _common(one: Shape, other: Shape) -> list[int]:
    return [size if size == elsewhere else -1 for size, elsewhere in zip(one, other, strict=True)]
