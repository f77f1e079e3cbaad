"""Multi-task inputs: `shared_dict` and keys for all branches, written out for checking and folded again afterwards."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from app.engines.deepmd.document import short
from app.engines.documents import parts, pointer
from app.wire.problems import Notice, Problem

Json = Any

SHAREABLE = ("type_map", "descriptor", "fitting_net")
"""What a branch may take from `shared_dict` by name: DeePMD-kit's `preprocess_shared_params`."""


@dataclass
class Expanded:
    """A document whose branches are complete."""

    value: dict[str, Json]
    moves: dict[str, str] = field(default_factory=dict)
    """Where each written-out part came from, by its place in a branch: once lowered, once shared."""
    shared: dict[str, tuple[str, Json]] = field(default_factory=dict)
    """By place in a branch: name in `shared_dict`, and the text that stood there."""
    broken: frozenset[str] = frozenset()
    """Sections that are too wrong to be checked further."""
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)


def is_multi_task(config: Mapping[str, Json]) -> bool:
    """Return whether a config trains several models at once. Survives a malformed config."""
    model = config.get("model")
    return isinstance(model, dict) and "model_dict" in model


def expand(config: dict[str, Json]) -> Expanded:
    """Write out a multi-task config as DeePMD-kit does before it checks one. A single-task config stays as it is."""
    expanded = Expanded(config)
    if not is_multi_task(config):
        return expanded
    config["model"] = model = dict(config["model"])
    branches = model["model_dict"]
    if not isinstance(branches, dict) or not branches or not all(isinstance(item, dict) for item in branches.values()):
        message = "model.model_dict must be an object with one object per task"
        hint = 'Write {"TASK": { … }, …}.'
        expanded.problems.append(Problem(code="wrong-type", message=message, pointer="/model/model_dict", hint=hint))
        expanded.broken = frozenset({"model"})
        return expanded
    _check_names(branches, expanded)
    _lower(model, expanded)
    shared = model.get("shared_dict", {})
    for name, branch in branches.items():
        for key in SHAREABLE:
            _write_out(shared, branch, key, pointer("model", "model_dict", name, key), expanded)
    _check_sharing(model, shared, expanded)
    return expanded


def _check_names(branches: dict[str, Json], expanded: Expanded) -> None:
    for name in branches:
        if name == "RANDOM" or not name or "/" in name:
            message = f"{short(name)} cannot be the name of a task"
            hint = "Use letters, digits, dots and underscores; RANDOM has a meaning of its own."
            at = pointer("model", "model_dict", name)
            expanded.problems.append(Problem(code="invalid-name", message=message, pointer=at, hint=hint))


def _lower(model: dict[str, Json], expanded: Expanded) -> None:
    """Give every branch the keys that stand beside `model_dict`, unless it has its own."""
    for key in [key for key in model if key not in ("model_dict", "shared_dict") and not key.startswith("_")]:
        value = model.pop(key)
        for name, branch in model["model_dict"].items():
            if key not in branch:
                branch[key] = deepcopy(value)
                expanded.moves[pointer("model", "model_dict", name, key)] = pointer("model", key)


def _write_out(shared: Json, holder: Any, key: str | int, at: str, expanded: Expanded) -> None:
    value = holder.get(key) if isinstance(holder, dict) else holder[key]
    if isinstance(value, str):
        name, _, level = value.partition(":")
        if not isinstance(shared, dict) or name not in shared or (level and not level.isdecimal()):
            hint = f"shared_dict has {', '.join(shared) or 'nothing'}." if isinstance(shared, dict) else None
            message = f"{short(value)} is no name in model.shared_dict"
            expanded.problems.append(Problem(code="unknown-shared", message=message, pointer=at, hint=hint))
            return
        holder[key] = deepcopy(shared[name])
        expanded.shared[at] = (name, value)
    elif isinstance(value, dict) and value.get("type") == "hybrid" and isinstance(value.get("list"), list):
        for index in range(len(value["list"])):
            _write_out(shared, value["list"], index, at + pointer("list", index), expanded)


def _check_sharing(model: dict[str, Json], shared: Json, expanded: Expanded) -> None:
    used = {name for name, _ in expanded.shared.values()}
    maps = {name for at, (name, _) in expanded.shared.items() if at.endswith("/type_map")}
    branches = model["model_dict"]
    if len(maps) != 1 or sum(at.endswith("/type_map") for at in expanded.shared) < len(branches):
        message = "all tasks of a multi-task training must take one and the same type_map from model.shared_dict"
        hint = 'Write it once under shared_dict and give every task its name: "type_map": "NAME".'
        expanded.problems.append(Problem(code="type-map-not-shared", message=message, pointer="/model", hint=hint))
    for name in sorted(set(shared) - used) if isinstance(shared, dict) else []:
        if not name.startswith("_"):
            at = pointer("model", "shared_dict", name)
            message = f"model.shared_dict.{name} is used by no task"
            expanded.warnings.append(Notice(code="ignored", message=message, pointer=at, hint="Remove it."))


def fold(config: dict[str, Json], shared: Mapping[str, tuple[str, Json]]) -> dict[str, str]:
    """Put shared parts back into `shared_dict`, in place, and return their new place by their place in a branch.

    The resolved config names what is shared, so that DeePMD-kit still shares it.
    """
    if not shared:
        return {}
    kept: dict[str, Json] = {}
    places: dict[str, str] = {}
    # Parts of hybrids stand inside their branch's descriptor: the innermost first, before a whole is taken out.
    for at in sorted(shared, key=len, reverse=True):
        name, text = shared[at]
        holder, key = _holder(config, at)
        kept[name] = holder[key]
        places[at] = pointer("model", "shared_dict", name)
        holder[key] = text
    config["model"]["shared_dict"] = kept
    return places


def _holder(config: dict[str, Json], at: str) -> tuple[Any, Any]:
    *path, last = parts(at)
    holder: Any = config
    for part in path:
        holder = holder[int(part)] if isinstance(holder, list) else holder[part]
    return holder, int(last) if isinstance(holder, list) else last
