"""Layers of a config, strongest first, merged leaf by leaf: who wins, and who lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.engines.documents import is_branch, leaves
from app.wire.resolution import LosingCandidate, OriginKind

Json = Any


@dataclass(frozen=True)
class Layer:
    """A document and what its values are called: `explicit`, `base`, `default`."""

    origin: OriginKind
    document: Mapping[str, Json]
    source: str | None = None
    """Where the document came from: the digest of a base, the version of a schema."""


@dataclass(frozen=True)
class Merged:
    """One document out of many, and for each of its leaves every layer's value, the one in force first."""

    document: dict[str, Json]
    candidates: dict[str, list[LosingCandidate]]


def merge(layers: Sequence[Layer]) -> Merged:
    """Merge layers, strongest first. Objects are merged key by key, lists of objects of equal length item by item."""
    document: Any = {}
    for layer in reversed(layers):
        document = _over(layer.document, document)
    tables = [(layer, dict(leaves(layer.document))) for layer in layers]
    candidates = {
        at: [
            LosingCandidate(origin=layer.origin, value=table[at], source=layer.source)
            for layer, table in tables
            if at in table
        ]
        for at, _ in leaves(document)
    }
    return Merged(document, candidates)


def _over(strong: Json, weak: Json) -> Json:
    if isinstance(strong, Mapping) and isinstance(weak, Mapping):
        both = {key: _over(value, weak[key]) if key in weak else value for key, value in strong.items()}
        return both | {key: value for key, value in weak.items() if key not in strong}
    if isinstance(strong, list) and isinstance(weak, list) and len(strong) == len(weak) and is_branch(strong):
        return [_over(one, other) for one, other in zip(strong, weak, strict=True)]
    return strong
