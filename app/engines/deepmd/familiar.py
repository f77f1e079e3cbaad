"""What of a structure's distances does not occur in the data that a model was trained on: said before a job is queued."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.engines.base import DatasetFacts, Model
from app.engines.deepmd import tasks
from app.wire.datasets import DatasetRef, Distances, SystemSummary
from app.wire.relaxing import Finding

TOLERANCE_A = 0.001
"""Distances are kept rounded, and single-precision coordinates are no better."""


@dataclass(frozen=True)
class Familiar:
    """The distances in the data of a training, as far as its frames were looked at."""

    elements: frozenset[str]
    """Of all frames; the distances are those of frames that were looked at."""
    cutoff: float
    looked_at: int
    frames: int
    nearest: Mapping[str, float]
    farthest: Mapping[str, float | None]

    def limit(self, distance: float) -> str:
        """Return a distance of these data in words, and how many frames were looked at if not all."""
        some = "" if self.looked_at == self.frames else f"; {self.looked_at:,} of {self.frames:,} frames were looked at"
        return f"({distance:.3f} Å{some})"


def of_model(model: Model, head: str | None) -> Familiar | None:
    """Return the distances in a model's training data; None where they are not known of every dataset."""
    if model.config is None or not model.data:
        return None
    refs = {text: DatasetRef.parse(text) for text in _systems(model.config, head)}
    found: dict[tuple[str, int, str], Distances] = {}
    systems: list[SystemSummary] = []
    for text, ref in refs.items():
        facts = model.data.get(text)
        if facts is None or ref is None or not facts.distances:
            return None
        systems += [one for one in facts.systems if ref.system in (None, one.name)]
        for system, part in _chosen(facts, ref):
            found[facts.name, facts.version, system] = part
    return _together(list(found.values()), systems) if found else None


def _systems(config: Mapping[str, Any], head: str | None) -> Sequence[str]:
    """Return the systems that a task was trained on; none of one that is not there."""
    training = config["training"]
    section = training["data_dict"].get(head) if tasks.is_multi_task(config) else training
    systems = section["training_data"]["systems"] if section else []
    return [systems] if isinstance(systems, str) else systems


def _chosen(facts: DatasetFacts, ref: DatasetRef) -> Iterator[tuple[str, Distances]]:
    """Yield the distances of the systems of a reference; of all, where they are kept together."""
    for system, part in facts.distances.items():
        if not system or ref.system in (None, system):
            yield system, part


def _together(parts: Sequence[Distances], systems: Sequence[SystemSummary]) -> Familiar:
    nearest: dict[str, float] = {}
    farthest: dict[str, float | None] = {}
    for part in parts:
        for pair, distance in part.nearest.items():
            nearest[pair] = min(distance, nearest.get(pair, distance))
        for element, far in part.farthest.items():
            known = farthest.get(element, far)
            farthest[element] = None if known is None or far is None else max(known, far)
    looked_at = sum(part.frames for part in parts)
    return Familiar(
        elements=frozenset(element for one in systems for element in one.elements),
        cutoff=min(part.cutoff for part in parts),
        looked_at=looked_at,
        frames=max(looked_at, sum(one.frames for one in systems)),
        nearest=nearest,
        farthest=farthest,
    )


def findings(structure: Distances, known: Familiar, model: str) -> Iterator[Finding]:
    """Yield what of a structure is nearer, or farther, than anything in the data of a model of this name."""
    data = f"the data that {model} was trained on"
    unseen = set(structure.farthest) - set(known.farthest)
    for element in sorted(unseen - known.elements):
        message = f"{element} is in no frame of {data}"
        yield Finding(code="untrained-element", message=message, refused=False, elements=[element])
    for pair, distance in sorted(structure.nearest.items(), key=lambda item: item[1]):
        limit = known.nearest.get(pair, known.cutoff)
        if distance < limit - TOLERANCE_A and not unseen & set(pair.split("-")):
            than = f"nearer than any {pair} pair of {data} {known.limit(limit)}"
            yield _outside(pair, structure, f"{distance:.3f} Å apart: {than}", distance, limit)
    for element, far in sorted(structure.farthest.items()):
        known_far = known.farthest.get(element)
        if known_far is not None and (far is None or far > known_far + TOLERANCE_A):
            alone = f"{far:.3f} Å from" if far is not None else f"more than {structure.cutoff:g} Å from"
            than = f"farther than any {element} of {data} {known.limit(known_far)}"
            yield _outside(element, structure, f"{alone} the nearest other atom: {than}", far, known_far)


def _outside(name: str, structure: Distances, words: str, distance: float | None, limit: float) -> Finding:
    atoms, elements = structure.atoms[name], name.split("-")
    named = [f"{atom} ({element})" for atom, element in zip(atoms, elements, strict=True)]
    who = f"atoms {' and '.join(named)} are" if len(set(atoms)) > 1 else f"atom {named[0]} is"
    words = words.replace("apart", "from its own image") if len(atoms) > len(set(atoms)) else words
    return Finding(
        code="outside-training", message=f"{who} {words}", refused=False, atoms=list(dict.fromkeys(atoms)),
        elements=elements[: len(set(atoms))], distance=distance, limit=limit,
    )  # fmt: skip
