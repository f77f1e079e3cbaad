"""What a config inherits from a base model: which branch, in which type map, and what never."""

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from app.wire.models import BaseFacts, BranchFacts
from app.wire.submission import Start

Json = Any

ONLY = ("", "Default")
"""Names by which DeePMD-kit means the only model of a single-task base."""

ONE_SEL_PER_TYPE = frozenset({"se_e2_a", "se_e2_r", "se_e3"})
"""Descriptors whose `sel` counts the neighbours of each type; elsewhere only its sum matters."""

SELECTIONS = ("sel", "nsel", "three_body_sel", "e_sel", "a_sel")
"""Numbers of neighbours, which may be `auto`."""

_AUTO = re.compile(r"auto(?::(?P<ratio>.+))?")

NEVER_INHERITED: dict[str, str] = {
    "seed": "it decided the first weights, which now come from the base",
    "trainable": "it says what a training may change, not what the model is",
    "data_stat_nbatch": "it says how statistics were taken, not what the model is",
    "data_stat_protect": "it says how statistics were taken, not what the model is",
    "data_bias_nsample": "it says how statistics were taken, not what the model is",
    "preset_out_bias": "it set the output bias before the first step; the trained bias is part of the weights",
    "finetune_head": "it says where the base itself started from",
    "model_branch_alias": "it is another name of the base's branch",
    "info": "it is a record of the base's own training",
}
"""Keys of a model section that say how a training was begun, with the reason. Only `resume` inherits them."""


def is_auto(value: Json) -> bool:
    """Return whether a number of neighbours is left to the trainer: `auto`, `auto:1.2`."""
    match = _AUTO.fullmatch(value) if isinstance(value, str) else None
    return match is not None and (match["ratio"] is None or _is_ratio(match["ratio"]))


def _is_ratio(text: str) -> bool:
    try:
        return 0 < float(text) < 100
    except ValueError:
        return False


def branch_of(facts: BaseFacts, start: Start, task: str) -> BranchFacts | None:
    """Return the branch of a base that a task starts from (`""`: a single-task training), or None when there is none.

    A single-task base has one branch for everybody. Of several, a single-task training takes the one that
    `start.branch` names; a task of a multi-task training the one that `start.branch` maps it to, or its namesake.
    """
    name = wanted_branch(facts, start, task)
    return next((branch for branch in facts.branches if branch.name == name), None)


def wanted_branch(facts: BaseFacts, start: Start, task: str) -> str | None:
    """Return the name of the branch that a task asks for, whether or not there is one; None: it names none."""
    mapping = start.branch if isinstance(start.branch, dict) else {}
    single = start.branch if isinstance(start.branch, str) else None
    asked = mapping.get(task, task) if task else single
    if len(facts.branches) == 1 and not task and asked in (None, *ONLY):
        return facts.branches[0].name
    if asked in ONLY and any(branch.name == "" for branch in facts.branches):
        return ""
    return asked if asked is None else _unaliased(facts, asked)


def _unaliased(facts: BaseFacts, name: str) -> str:
    """Return the branch that an alias (`model_branch_alias`) means."""
    if any(branch.name == name for branch in facts.branches):
        return name
    for branch in facts.branches:
        aliases = branch.model.get("model_branch_alias")
        if isinstance(aliases, list) and name in aliases:
            return branch.name
    return name


def translated(model: Mapping[str, Json], type_map: Sequence[str]) -> dict[str, Json]:
    """Return a model section as it reads in another type map: the same model, what is indexed by type reordered.

    Entries of types that the new map lacks fall away. For types that the model lacks, `atom_ener` and `preset_out_bias`
    get null, and a `sel` with one number per type is left out: nobody knows the number.
    """
    section = deepcopy(dict(model))
    known = section.get("type_map")
    if not isinstance(known, list) or known == list(type_map):
        return section
    section["type_map"] = list(type_map)
    places = [known.index(name) if name in known else None for name in type_map]
    _apply(section, "pair_exclude_types", lambda pairs: _pairs(pairs, places))
    _apply(section, "atom_exclude_types", lambda types: sorted(_moved(types, places)))
    biases = section.get("preset_out_bias")
    for key in biases if isinstance(biases, dict) else ():
        _apply(biases, key, lambda values: _per_type(values, places, len(known)))
    _apply(section.get("fitting_net"), "atom_ener", lambda values: _per_type(values, places, len(known)))
    _translate_descriptor(section.get("descriptor"), places, len(known))
    return section


def _translate_descriptor(descriptor: Json, places: Sequence[int | None], known: int) -> None:
    if not isinstance(descriptor, dict):
        return
    for member in descriptor["list"] if isinstance(descriptor.get("list"), list) else ():
        _translate_descriptor(member, places, known)
    _apply(descriptor, "exclude_types", lambda pairs: _pairs(pairs, places))
    if descriptor.get("type") in ONE_SEL_PER_TYPE and isinstance(descriptor.get("sel"), list):
        if None in places:
            del descriptor["sel"]
        else:
            _apply(descriptor, "sel", lambda values: _per_type(values, places, known))


def _apply(section: Json, key: str, change: Callable[[list[Json]], list[Json]]) -> None:
    if isinstance(section, dict) and isinstance(section.get(key), list):
        section[key] = change(section[key])


def _per_type(values: list[Json], places: Sequence[int | None], known: int) -> list[Json]:
    if len(values) != known:
        return values
    return [None if place is None else values[place] for place in places]


def _moved(types: list[Json], places: Sequence[int | None]) -> list[int]:
    return [places.index(kind) for kind in types if kind in places]


def _pairs(pairs: list[Json], places: Sequence[int | None]) -> list[Json]:
    """Return pairs of types in the new numbers, sorted: they have no order, and equal ones must look equal."""
    moved = [sorted(_moved(pair, places)) for pair in pairs if isinstance(pair, list)]
    return sorted(pair for pair in moved if len(pair) == 2)
