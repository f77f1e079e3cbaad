"""The models that jobs of other kinds than train name: pinned, and whether one of them has energies and forces."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from app.engines.base import Model, ModelUse
from app.engines.deepmd import data
from app.engines.deepmd.document import short
from app.engines.deepmd.draft import Draft, counted
from app.engines.documents import pointer

Json = Any

Reference = Annotated[str, Field(min_length=1, max_length=300)]
MODELS = "`group:ID[@STEP]` (every replica), `job:ID[@STEP]`, or `NAME[@VERSION]` of a base model. Without a step: the newest checkpoint."
HEAD = "Which task of a model with several: its own name in the model."


@dataclass(frozen=True)
class Named:
    """A model that a submission names."""

    index: int
    """Of the entry of `models` that stands for it, as submitted."""
    model: Model

    @property
    def name(self) -> str:
        """Return how it is called: `job:17@4000`."""
        return self.model.name


def uses(config: Mapping[str, Json]) -> Iterator[ModelUse]:
    """Yield every entry of `models`."""
    for index, text in enumerate(config["models"]):
        yield ModelUse(pointer("models", index), text)


def settle(draft: Draft, models: Mapping[str, Sequence[Model]]) -> list[Named] | None:
    """Pin the models, refusing what is named twice; None when a reference stands for nothing."""
    texts = draft.config["models"]
    if any(text not in models for text in texts):
        return None
    found = [Named(index, model) for index, text in enumerate(texts) for model in models[text]]
    names = [one.name for one in found]
    if names != texts:
        several = [
            f"{text} stands for {counted(len(models[text]), 'model')}" for text in texts if len(models[text]) > 1
        ]
        draft.put(("models",), names, "derived", note="; ".join(several) or "the newest checkpoint of each")
    _check_twice(draft, found)
    return found


def _check_twice(draft: Draft, found: Sequence[Named]) -> None:
    seen: dict[str, Named] = {}
    for one in found:
        first = seen.setdefault(one.model.sha256, one)
        if first is not one:
            same = "twice" if first.name == one.name else f"and {first.name}, which are the same file"
            message = f"names {one.name} {same}: equal models agree in everything"
            draft.refuse("same-model-twice", ("models", one.index), message, "Name it once.")


def energy_section(draft: Draft, one: Named, head: str | None) -> Mapping[str, Json] | None:
    """Return the model section of a model with energies and forces; None when it is none, or a head is missing or too many."""
    section = head_section(draft, one, head)
    if section is None:
        return None
    kind = _fitting(section)
    if kind != "ener":
        message = f"names {one.name}, which has no energies and forces: its fitting net is of type {kind}"
        draft.refuse("not-an-energy-model", ("models", one.index), message, "Name models of energies.")
        return None
    return section


def _fitting(section: Mapping[str, Json]) -> str:
    return str((section.get("fitting_net") or {}).get("type", "ener"))


def has_energies(section: Mapping[str, Json]) -> bool:
    """Return whether a model of this section gives energies and forces of atoms without spins."""
    return _fitting(section) == "ener" and "spin" not in section


def head_section(draft: Draft, one: Named, head: str | None) -> Mapping[str, Json] | None:
    """Return the section of a model, or of its task `head`, type map included; None when that does not fit."""
    heads = sections(one.model)
    if list(heads) == [""]:
        if head is not None:
            message = f"is {head!r}, but {one.name} holds one model only"
            draft.refuse("no-such-head", ("head",), message, "Remove it.")
            return None
        return heads[""]
    there_are = ", ".join(heads)
    if head is None:
        message = f"names {one.name}, which has a model for each of its tasks: {there_are}"
        draft.refuse("missing-head", ("models", one.index), message, "Say which with `head`.")
    elif head not in heads:
        message = f"is {head!r}, which is no task of {one.name}"
        draft.refuse("no-such-head", ("head",), message, f"It has {there_are}.")
    return heads.get(head) if head is not None else None


def sections(model: Model) -> dict[str, Mapping[str, Json]]:
    """Return the model section of every task, type map included; the name of one that is no task is empty."""
    if model.facts is not None:
        return {branch.name: {**branch.model, "type_map": branch.type_map} for branch in model.facts.branches}
    assert model.config is not None, f"nothing is known of {model.name}"
    section: Mapping[str, Json] = model.config["model"]
    if "model_dict" not in section:
        return {"": section}
    shared = section.get("shared_dict") or {}
    return {name: _unshared(task, shared) for name, task in section["model_dict"].items()}


def _unshared(task: Mapping[str, Json], shared: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return a task's section with what it shares in its place: `descriptor: NAME[:LEVEL]`."""
    return {
        key: shared.get(value.split(":")[0], value) if isinstance(value, str) else value for key, value in task.items()
    }


def check_once(draft: Draft, systems: Sequence[data.System]) -> None:
    """Refuse data that are named more than once: their frames would count more than others."""
    counts = Counter(system.ref for system in systems)
    for ref in (ref for ref, count in counts.items() if count > 1):
        draft.refuse("same-data-twice", ("data",), f"names {ref} twice: its frames would count twice", "Name it once.")


def check_elements(draft: Draft, systems: Sequence[data.System], type_map: Sequence[str], whose: str) -> None:
    """Refuse systems with elements that a type map does not have."""
    for system in systems:
        missing = [name for name in system.summary.type_map if name not in type_map]
        if missing:
            message = f"names {system.ref} with {', '.join(missing)}: not in {whose} type_map {short(list(type_map))}"
            place = data.place_of(draft, ("data",), systems, system)
            draft.refuse(
                "element-not-in-type-map", place, message, "Leave this system out, or name models that know it."
            )
