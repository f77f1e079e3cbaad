"""The structures that a relaxation names: pinned one by one, those of datasets and those written out."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.engines.base import DatasetFacts
from app.engines.deepmd import distances, physics
from app.engines.deepmd.document import short
from app.engines.deepmd.draft import Draft, Path, counted
from app.engines.deepmd.structures import Structure
from app.engines.references import digests, newest
from app.wire.datasets import DatasetRef, Distances, StructureSummary
from app.wire.relaxing import Finding


@dataclass(frozen=True)
class Chosen:
    """A structure, and what is known of it before anybody has a model."""

    name: str
    """`dataset:NAME@VERSION/STRUCTURE`, or its own name."""
    place: Path
    """Where the submission names it."""
    elements: Sequence[str]
    periodic: bool
    findings: Sequence[Finding]
    distances: Distances | None
    """None: it was sent before they were measured, or nothing can be measured of it."""


def settle(draft: Draft, datasets: Mapping[str, DatasetFacts]) -> list[Chosen]:
    """Pin the structures; what is wrong with a reference is a problem, and that one is left out."""
    texts: list[str] = draft.config["structures"]
    inline = [Structure.model_validate(one) for one in draft.config["inline"]]
    if not texts and not inline:
        hint = 'Write {"structures": ["dataset:NAME"]}; `cairn relax` uploads files and does so.'
        draft.refuse("missing-key", ("structures",), "names nothing to relax", hint)
    chosen = [one for index, text in enumerate(texts) for one in _named(draft, index, text, datasets)]
    refs = [one.name for one in chosen]
    if refs != texts and all(text in datasets for text in texts):
        notes = [note for text in texts for note in _notes(text, datasets[text])]
        draft.put(
            ("structures",), refs, "derived", source=digests(texts, datasets), note="; ".join(dict.fromkeys(notes))
        )
    chosen += [_of_inline(index, one) for index, one in enumerate(inline)]
    _check_twice(draft, chosen)
    return chosen


def _named(draft: Draft, index: int, text: str, datasets: Mapping[str, DatasetFacts]) -> list[Chosen]:
    facts, ref, place = datasets.get(text), DatasetRef.parse(text), ("structures", index)
    if facts is None or ref is None:
        return []
    if not facts.structures:
        message = f"names {short(text)}, which is no dataset of structures: it has systems with labels"
        hint = "Upload the file with `form=structures`: `cairn dataset add FILE --structures`, or `cairn relax`."
        draft.refuse("not-structures", place, message, hint)
        return []
    found = [one for one in facts.structures if ref.system in (None, one.name)]
    if not found:
        names = [one.name for one in facts.structures]
        near = difflib.get_close_matches(str(ref.system), names, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"It has {', '.join(names[:20])}."
        draft.refuse("unknown-structure", place, f"names {short(text)}: there is no such structure in it", hint)
    return [_of_dataset(facts, one, place) for one in found]


def _of_dataset(facts: DatasetFacts, one: StructureSummary, place: Path) -> Chosen:
    name = f"dataset:{facts.name}@{facts.version}/{one.name}"
    return Chosen(name, place, one.elements, one.periodic, one.findings, one.distances)


def _of_inline(index: int, one: Structure) -> Chosen:
    findings = physics.findings(one)
    measured = None if physics.is_hopeless(findings) else distances.of_structure(one)
    return Chosen(one.name, ("inline", index), sorted(set(one.symbols)), one.cell is not None, findings, measured)


def _notes(text: str, facts: DatasetFacts) -> list[str]:
    return [*newest(DatasetRef.parse(text) or DatasetRef(name=facts.name), facts),
            f"{text} stands for {counted(len(facts.structures), 'structure')}"]  # fmt: skip


def _check_twice(draft: Draft, chosen: Sequence[Chosen]) -> None:
    seen: set[str] = set()
    for one in chosen:
        if one.name in seen:
            draft.refuse("same-structure-twice", one.place, f"names {one.name} twice", "Name it once.")
        seen.add(one.name)
