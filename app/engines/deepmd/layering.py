"""Explicit over base over default: which values of a base apply to a submission, and the merged document."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.engines.base import Base
from app.engines.deepmd.base_layer import SELECTIONS, is_auto
from app.engines.deepmd.draft import counted
from app.engines.deepmd.inherit import Inherited
from app.engines.deepmd.schema import defaults
from app.engines.documents import is_branch, leaves, lookup, parts, pointer
from app.engines.layers import Layer, Merged, merge
from app.wire.resolution import LosingCandidate

Json = Any

EXCLUSIVE = (
    ("/learning_rate/stop_lr", "/learning_rate/stop_lr_ratio"),
    ("/learning_rate/warmup_steps", "/learning_rate/warmup_ratio"),
    ("/training/numb_steps", "/training/numb_epoch", "/training/num_epoch_dict"),
    ("/training/model_prob", "/training/num_epoch_dict"),
)
"""Keys of which a config may have one: where a submission has another one than the base, the base's does not apply."""


@dataclass
class Layered:
    """A submission over its base over the defaults, and what of the base does not apply."""

    merged: Merged
    base: Mapping[str, Json] = field(default_factory=dict)
    """What applies of the base."""
    ended: dict[str, str] = field(default_factory=dict)
    """Why the base ends, by the place where it does."""
    automatic: dict[str, Json] = field(default_factory=dict)
    """Explicit values that stand for the base's (`auto`, a seed of null), by place."""

    def is_ended(self, at: str) -> bool:
        """Return whether a place is inside a part where the base does not apply."""
        return any(at.startswith(place.removesuffix("type")) and at != place for place in self.ended)


def layered(
    explicit: dict[str, Json], inherited: Inherited, base: Base | None, is_given: Callable[[str], bool], *,
    multi_task: bool,
) -> Layered:  # fmt: skip
    """Merge what was submitted, what is inherited and DeePMD-kit's defaults.

    `is_given` tells whether the value at a place was submitted; others come from the conversion of old inputs.
    """
    if inherited.document is None or base is None:
        converted = _converted(explicit, {}, is_given)
        own = _without(explicit, converted)
        return Layered(_merged(own, {}, None, _only(explicit, converted), multi_task=multi_task))
    layers = Layered(Merged({}, {}))
    layers.base = _applying(inherited.document, explicit, "", layers.ended)
    layers.base = _without(layers.base, _excluded(explicit, layers.base))
    layers.automatic = _automatic(explicit, layers.base)
    converted = _converted(explicit, layers.base, is_given)
    own = _without(explicit, {*converted, *layers.automatic, *_filled_in(explicit, layers.base, is_given)})
    layers.merged = _merged(own, layers.base, base.sha256, _only(explicit, converted), multi_task=multi_task)
    for at, value in layers.automatic.items():
        layers.merged.candidates[at].insert(1, LosingCandidate(origin="explicit", value=value))
    _add_passed_over(layers.merged, inherited, base)
    return layers


def _merged(
    explicit: dict[str, Json], base: Mapping[str, Json], sha256: str | None, converted: Json, *, multi_task: bool
) -> Merged:
    strong = [Layer("explicit", explicit), Layer("base", base, sha256), Layer("default", converted)]
    chosen = merge(strong).document
    return merge([*strong, Layer("default", defaults(chosen, multi_task=multi_task))])


def _applying(base: Json, explicit: Json, at: str, ended: dict[str, str]) -> Json:
    """Return what of a base applies to a submission: an object of another kind does not, nor a list of other length."""
    if isinstance(base, dict) and isinstance(explicit, dict):
        kinds = base.get("type"), explicit.get("type")
        if None not in kinds and kinds[0] != kinds[1]:
            ended[at + "/type"] = f"is {kinds[1]}, not {kinds[0]} as in the base"
            return {"type": kinds[0]}
        members = {
            key: _applying(value, explicit[key], at + pointer(key), ended) if key in explicit else value
            for key, value in base.items()
        }
        return {key: value for key, value in members.items() if at + pointer(key) not in ended}
    if isinstance(base, list) and isinstance(explicit, list) and (is_branch(base) or is_branch(explicit)):
        if len(base) == len(explicit):
            pairs = enumerate(zip(base, explicit, strict=True))
            return [_applying(one, other, at + pointer(index), ended) for index, (one, other) in pairs]
        ended[at] = f"has {counted(len(explicit), 'part')}, not {len(base)} as in the base"
        return []
    return base


def _excluded(explicit: Json, base: Json) -> set[str]:
    """Return the base's keys that something exclusive to them in a submission puts out of force."""
    return {
        key
        for group in EXCLUSIVE
        for key in group
        if not _has(explicit, key) and any(_find(explicit, other) not in (None, {}) for other in group if other != key)
    }


def _automatic(explicit: Json, base: Json) -> dict[str, Json]:
    """Return explicit values that leave a choice which the base has already made."""
    found = {}
    for at, value in leaves(explicit):
        key, had = at.rpartition("/")[2], _find(base, at)
        is_counted = key in SELECTIONS and is_auto(value) and isinstance(had, int | list)
        is_drawn = key == "seed" and value is None and had is not None
        if is_counted or is_drawn:
            found[at] = value
    return found


def _converted(explicit: Json, base: Json, is_given: Callable[[str], bool]) -> list[str]:
    """Return what DeePMD-kit's conversion of old inputs wrote of its own: defaults, which a base goes before."""
    return [at for at, value in leaves(explicit) if value != {} and not is_given(at) and not _has(base, at)]


def _filled_in(explicit: Json, base: Json, is_given: Callable[[str], bool]) -> set[str]:
    return {at for at, value in leaves(explicit) if value != {} and not is_given(at) and _has(base, at)}


def _add_passed_over(merged: Merged, inherited: Inherited, base: Base) -> None:
    """Name the base's values that are never inherited among those that lost."""
    for at, value in inherited.passed_over.items():
        candidates = merged.candidates.get(at)
        if candidates and candidates[0].value != value:
            candidates.append(LosingCandidate(origin="base", value=value, source=base.sha256))


def _without(value: Json, places: Collection[str], at: str = "") -> Json:
    """Return a document without some of its values."""
    if isinstance(value, list):
        return [_without(item, places, at + pointer(index)) for index, item in enumerate(value)] if places else value
    if not isinstance(value, dict):
        return value
    return {
        key: _without(member, places, at + pointer(key))
        for key, member in value.items()
        if at + pointer(key) not in places
    }


def _only(value: Json, places: Collection[str]) -> dict[str, Json]:
    """Return the values of a document that stand at some places, none of them in a list."""
    kept: dict[str, Json] = {}
    for place in places:
        *path, last = parts(place)
        holder = kept
        for part in path:
            holder = holder.setdefault(part, {})
        holder[last] = lookup(value, place)
    return kept


def _find(document: Json, at: str) -> Json:
    try:
        return lookup(document, at)
    except (LookupError, TypeError, ValueError):
        return None


def _has(document: Json, at: str) -> bool:
    try:
        lookup(document, at)
    except (LookupError, TypeError, ValueError):
        return False
    return True
