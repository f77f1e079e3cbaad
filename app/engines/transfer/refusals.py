"""What may not be: tensors that would not come from the base as they are, and which key is responsible."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from app.engines.documents import dotted, short
from app.engines.transfer.sections import Section, is_allowed, submitted
from app.wire.models import TensorFacts
from app.wire.problems import Problem
from app.wire.resolution import Origin
from app.wire.submission import Start
from app.wire.transfer import PlannedTensor

Json = Any
Kind = Literal["types", "output", "layer", "fixed"]
"""Why a tensor is not copied: other types (elements, neighbour slots, tokens), an output layer of another shape, what
`start.allow` may accept, or what nothing can."""

_SHOWN = 3


@dataclass(frozen=True)
class Deviation:
    """Why a tensor's numbers do not come from the base as they are."""

    kind: Kind
    section: Section
    keys: tuple[str, ...]
    """The keys responsible, as places in the model section."""
    base_values: tuple[Json, ...]
    counterpart: TensorFacts | None = None
    """The base's tensor, of another shape; None: the base has none."""


@dataclass(frozen=True)
class Words:
    """What an engine calls things in refusals."""

    adaptable: str
    """What may differ unless `on_mismatch` is error: `what depends on the types, and output layers`."""
    source: str
    """What a base is made of: `the file that DeePMD-kit wrote`."""
    short_name: Callable[[PlannedTensor], str]
    """A tensor's name without what all names have in common."""
    remedies: Callable[[Sequence[PlannedTensor]], list[str]]
    """What else can be done about all of these tensors: `take a new fitting net: …`."""


def is_accepted(deviation: Deviation, start: Start) -> bool:
    """Return whether `start` lets a tensor be other than copied."""
    if start.on_mismatch == "error" or deviation.kind == "fixed":
        return False
    if deviation.kind != "layer":
        return True
    return bool(deviation.keys) and all(is_allowed(deviation.section, at, start.allow) for at in deviation.keys)


@dataclass
class Refusal:
    """All that one set of keys would cost."""

    deviation: Deviation
    tensors: list[tuple[PlannedTensor, Deviation]] = field(default_factory=list)


def refuse(
    deviations: Sequence[tuple[PlannedTensor, Deviation]],
    origins: Mapping[str, Origin],
    start: Start,
    base: str,
    words: Words,
) -> list[Problem]:
    """Return one problem for each set of keys."""
    refusals: dict[tuple[str, ...], Refusal] = {}
    told = {deviation.counterpart.name for _, deviation in deviations if deviation.counterpart}
    for tensor, deviation in deviations:
        if tensor.verb == "unused" and tensor.name in told:
            continue
        places = tuple(deviation.section.pointer(at) for at in deviation.keys)
        refusals.setdefault(places, Refusal(deviation)).tensors.append((tensor, deviation))
    return [_problem(refusal, origins, start, base, words) for refusal in refusals.values()]


def _problem(refusal: Refusal, origins: Mapping[str, Origin], start: Start, base: str, words: Words) -> Problem:
    deviation = refusal.deviation
    section, adapts = deviation.section, start.on_mismatch == "adapt"
    places = [section.pointer(at) for at in deviation.keys]
    written = [at for at in (submitted(origins, place) for place in places) if at]
    return Problem(
        code="transfer-mismatch",
        message=f"{values(deviation, base)}. {_tensors(refusal, base, words)}",
        pointer=written[0] if written else "/start/base",
        hint=_hint(refusal, places, words, adapts=adapts),
        allow=[dotted(place) for place in places] if adapts and deviation.kind == "layer" and places else None,
    )


def values(deviation: Deviation, base: str) -> str:
    """Return the keys responsible and both values, in words."""
    section, known = deviation.section, deviation.section.values
    said = [
        f"{section.name(at)} is {short(known.get(at))}, but {base} has {short(other)}"
        for at, other in zip(deviation.keys, deviation.base_values, strict=True)
    ]
    return "; ".join(said) or f"the tensors of {base} are not those that its own model section describes"


def _tensors(refusal: Refusal, base: str, words: Words) -> str:
    # A tensor that both models have says most: its two shapes.
    tensors = sorted(refusal.tensors, key=lambda pair: pair[1].counterpart is None)
    listed = ", ".join(_shapes(tensor, deviation, base, words) for tensor, deviation in tensors[:_SHOWN])
    more = f" and {len(tensors) - _SHOWN} more" if len(tensors) > _SHOWN else ""
    count = "1 tensor" if len(tensors) == 1 else f"{len(tensors)} tensors"
    return f"{count} would not be copied: {listed}{more}"


def _shapes(tensor: PlannedTensor, deviation: Deviation, base: str, words: Words) -> str:
    known = tensor if tensor.verb == "unused" else deviation.counterpart
    ours = "none" if tensor.verb == "unused" else tensor.shape
    return f"{words.short_name(tensor)} ({ours} here, {known.shape if known else 'none'} in {base})"


def _hint(refusal: Refusal, places: Sequence[str], words: Words, *, adapts: bool) -> str:
    deviation = refusal.deviation
    if deviation.kind in ("types", "output"):
        return f'Write "on_mismatch": "adapt" under start: it lets {words.adaptable} differ.'
    remedies = []
    if places:
        values = ", ".join(map(short, deviation.base_values))
        remedies.append(f"write the base's {'value' if len(places) == 1 else 'values'} ({values})")
    if places and deviation.kind == "layer":
        allow = ", ".join(f'"{dotted(place)}"' for place in places)
        mode = "" if adapts else '"on_mismatch": "adapt" and '
        remedies.append(f'accept new weights there with {mode}"allow": [{allow}] under start')
    if not places:
        remedies.append(f"register the base again from {words.source}")
    remedies += words.remedies([tensor for tensor, _ in refusal.tensors])
    text = ", or ".join(remedies)
    return text[0].upper() + text[1:] + "."
