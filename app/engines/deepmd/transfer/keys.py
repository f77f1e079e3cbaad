"""Which keys of a model section may be responsible for a tensor's shape, and which change what the same shapes do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.engines.deepmd.base_layer import ONE_SEL_PER_TYPE, translated
from app.engines.deepmd.transfer.names import Name
from app.engines.documents import leaves
from app.engines.transfer.sections import Section

Json = Any

_INERT = frozenset(
    {
        "seed", "trainable", "type_map", "set_davg_zero", "fix_stat_std", "skip_stat", "data_stat_nbatch",
        "data_stat_protect", "data_bias_nsample", "preset_out_bias", "finetune_head", "model_branch_alias", "info",
        "observed_type", "layer_name", "rcond", "trainable_ln", "update_residual", "update_residual_init",
    }
)  # fmt: skip
"""Keys that neither shape a model nor what it makes of given weights: how a training begins, and how statistics, which
come from the base, were once taken."""

_OF_THE_MODEL = frozenset({"/pair_exclude_types", "/atom_exclude_types"})
"""Keys beside descriptor and fitting net that change what a model computes."""

_EFFECTS: dict[str, str] = {
    "activation_function": "the same weights pass through another function",
    "precision": "the same weights are rounded to, and computed with, another precision",
    "exclude_types": "other pairs of types see each other",
    "pair_exclude_types": "other pairs of types see each other",
    "atom_exclude_types": "other types contribute to the energy",
    "env_protection": "distances are divided by with another offset",
    "normalize": "attention is normalised in another way",
    "attn_dotr": "attention weighs directions in another way",
    "scaling_factor": "attention is scaled in another way",
    "temperature": "attention is scaled in another way",
    "smooth_type_embedding": "neighbours at the cutoff count in another way",
    "smooth_edge_update": "neighbours at the cutoff count in another way",
    "use_exp_switch": "neighbours near the cutoff count in another way",
    "use_dynamic_sel": "the descriptor is normalised in another way",
    "sel_reduce_factor": "the descriptor is normalised in another way",
    "use_sqrt_nnei": "the descriptor is normalised in another way",
    "ln_eps": "layers are normalised in another way",
    "atom_ener": "isolated atoms have another energy",
}
"""Keys that never change the shape of a trained tensor, with what a change of their value does. Names of cutoffs and
neighbour numbers (`rcut`, `e_rcut_smth`, `three_body_sel`) are recognised by their end."""

SAYS_SEL = "the descriptor is divided by the number of neighbour slots, and slots decide which neighbours count"
_SAYS_RCUT = "other neighbours are seen, and near the cutoff they count in another way"
_SAYS_OTHER = "the same weights are combined in another way"


def effect(key: str) -> str | None:
    """Return what a change of a key that never changes the shape of a trained tensor does; None for other keys."""
    if key.endswith(("rcut", "rcut_smth")):
        return _SAYS_RCUT
    return SAYS_SEL if key.endswith("sel") else _EFFECTS.get(key)


@dataclass(frozen=True)
class Difference:
    """A value that a new model and its base do not have in common. Places are in the model section."""

    at: str
    value: Json
    base: Json

    @property
    def key(self) -> str:
        """The last key of the place."""
        return self.at.rpartition("/")[2]

    @property
    def may_shape(self) -> bool:
        """Whether it can change the shape of a trained tensor."""
        return effect(self.key) is None


def differences(section: Section, base: Mapping[str, Json]) -> list[Difference]:
    """Return what of a model section differs from the base's, as the base's reads in the new type map.

    What begins a training is left out, and so is what has no counterpart: the rest of another descriptor, say.
    """
    ours = section.values
    theirs = dict(leaves(translated(base, ours["/type_map"])))
    places = [at for at in ours | theirs if _counts(at)]
    found = [Difference(at, ours.get(at), theirs.get(at)) for at in places if not _is_same(at, ours, theirs)]
    kinds = [difference.at for difference in found if difference.key == "type"]
    return [item for item in found if item.at in kinds or not any(_is_beside(item.at, kind) for kind in kinds)]


def _is_same(at: str, ours: Mapping[str, Json], theirs: Mapping[str, Json]) -> bool:
    one, other = ours.get(at), theirs.get(at)
    holder, _, key = at.rpartition("/")
    if key == "sel" and ours.get(f"{holder}/type") not in ONE_SEL_PER_TYPE:
        # Where it does not count by type, DeePMD-kit takes the sum of a list.
        one, other = (sum(value) if isinstance(value, list) else value for value in (one, other))
    return bool(one == other)


def _counts(at: str) -> bool:
    keys = at.split("/")[1:]
    if any(key in _INERT or key.startswith("_") for key in keys):
        return False
    return at in _OF_THE_MODEL or keys[0] in ("descriptor", "fitting_net", "type")


def _is_beside(at: str, kind: str) -> bool:
    """Return whether a place is in the section whose type is at `kind`: another type has other keys."""
    return at.startswith(kind.removesuffix("type"))


def responsible(name: Name, shapes: tuple[list[int], list[int]] | None, found: Iterable[Difference]) -> list[str]:
    """Return which differing values can have given a tensor another shape, or taken it away.

    `shapes` are the new model's and the base's; None when only one of them has the tensor.
    """
    candidates = [item for item in found if item.may_shape]
    first_of_fitting = name.section == "/fitting_net" and name.layer == 0 and name.leaf == "matrix"
    if first_of_fitting and shapes is not None and len(shapes[0]) == len(shapes[1]) == 2:
        is_input, is_output = shapes[0][0] != shapes[1][0], shapes[0][1] != shapes[1][1]
        inputs = _below("/descriptor", candidates) if is_input else []
        return inputs + (_below("/fitting_net", candidates) if is_output else [])
    for at in _ever_wider(name.section):
        below = [place for place in _below(at, candidates) if _concerns(place, name.section)]
        if below:
            return below
    return []


def _ever_wider(section: str) -> list[str]:
    """Return a tensor's section, and what else can shape it: the whole descriptor, then all."""
    if section.count("/") > 1:
        return [section, section.rpartition("/")[0], "/descriptor", ""]
    return [section, ""] if section else [""]


def _below(at: str, found: Iterable[Difference]) -> list[str]:
    return [item.at for item in found if item.at == at or item.at.startswith(f"{at}/")]


def _concerns(place: str, section: str) -> bool:
    """Return whether a value can shape a section's tensors: a member of a hybrid descriptor shapes no other member."""
    if not (place.startswith("/descriptor/list/") and section.startswith("/descriptor/list/")):
        return True
    return place.split("/")[3] == section.split("/")[3]
