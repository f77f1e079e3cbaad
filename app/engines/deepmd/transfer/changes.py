"""Values that leave every shape as it is and yet make another function of the same weights."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from app.engines.deepmd.base_layer import ONE_SEL_PER_TYPE
from app.engines.deepmd.transfer.keys import SAYS_SEL, Difference, effect
from app.engines.deepmd.transfer.maps import Types
from app.engines.documents import short
from app.engines.transfer.sections import Section
from app.wire.transfer import FunctionChange

Json = Any

_OTHER = "the same weights are combined in another way"
_DIVIDED = frozenset({"se_e2_a", "se_e2_r"})
"""Descriptors that are divided by the number of slots of all types together."""


def function_changes(
    section: Section,
    base: Mapping[str, Json],
    found: Sequence[Difference],
    types: Types,
    *,
    base_name: str,
    shaping: Collection[str],
    is_new_fitting: bool,
) -> list[FunctionChange]:
    """Return the changes of one task. `shaping` are places of the config whose difference has shown in shapes already."""
    per_type = {f"{at}/sel" for at, ours, _ in _descriptors(section, base) if ours.get("type") in ONE_SEL_PER_TYPE}
    differing = [
        item
        for item in found
        if section.pointer(item.at) not in shaping
        and item.key != "type"
        and item.at not in per_type
        and not (is_new_fitting and item.at.startswith("/fitting_net"))
    ]
    changes = [_change(section, item, base_name) for item in differing]
    return changes + [_change(section, item, base_name) for item in _other_slots(section, base, types)]


def _other_slots(section: Section, base: Mapping[str, Json], types: Types) -> Iterator[Difference]:
    """Yield every `sel` with one number per type that changes the scale of its descriptor."""
    for at, ours, theirs in _descriptors(section, base):
        if ours.get("type") in ONE_SEL_PER_TYPE and ours["type"] == theirs.get("type"):
            one, other = ours.get("sel"), theirs.get("sel")
            if not _is_same_scale(one, other, types, is_divided=ours["type"] in _DIVIDED):
                yield Difference(f"{at}/sel", one, other)


def _is_same_scale(one: Json, other: Json, types: Types, *, is_divided: bool) -> bool:
    if not (isinstance(one, list) and isinstance(other, list)):
        return bool(one == other)
    shared = [(count, other[place]) for count, place in zip(one, types.indices, strict=False) if place >= 0]
    return all(count == known for count, known in shared) and (not is_divided or sum(one) == sum(other))


def _descriptors(
    section: Section, base: Mapping[str, Json]
) -> list[tuple[str, Mapping[str, Json], Mapping[str, Json]]]:
    """Return the places of the descriptor and of a hybrid one's members, with both models' sections."""
    ours, theirs = section.model["descriptor"], base["descriptor"]
    members = zip(ours.get("list", []), theirs.get("list", []), strict=False)
    inner = [(f"/descriptor/list/{number}", one, other) for number, (one, other) in enumerate(members)]
    return [("/descriptor", ours, theirs), *inner]


def _change(section: Section, item: Difference, base_name: str) -> FunctionChange:
    why = SAYS_SEL if item.key == "sel" else effect(item.key) or _OTHER
    values = f"{short(item.value)} here, {short(item.base)} in {base_name}"
    message = f"{section.name(item.at)} is {values}; {why}"
    return FunctionChange(pointer=section.pointer(item.at), base=item.base, value=item.value, message=message)
