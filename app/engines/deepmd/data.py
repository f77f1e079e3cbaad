"""The data of an input: references to datasets, the systems they stand for, and whether model and loss fit them."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any

from app.engines.base import DatasetFacts, DataUse, DataWords
from app.engines.deepmd.batches import check_batches
from app.engines.deepmd.document import short
from app.engines.deepmd.draft import Draft, Path, counted
from app.engines.deepmd.schedule import is_used
from app.engines.documents import pointer
from app.engines.references import digests, named, newest
from app.wire.datasets import DatasetRef, SystemSummary

Json = Any

WORDS = DataWords(
    forms="An archive (tar, zip) of `deepmd/npy` systems, or a file that ASE or dpdata reads with energies and forces "
    "(extxyz, OUTCAR, …)",
    remedy="Convert it to deepmd/npy systems first, which are read piece by piece",
    command="cairn dataset add path/to/systems --name water",
    asked_for=("structures",),
)

LABELS = {"e": "energy", "f": "force", "v": "virial", "ae": "atom_ener", "pf": "atom_pref"}
"""Label that each term of the loss compares with."""


@dataclass(frozen=True)
class System:
    """A system that a reference stands for."""

    ref: str
    """`dataset:NAME@VERSION/SYSTEM`."""
    summary: SystemSummary


def data_uses(config: Mapping[str, Json]) -> Iterator[DataUse]:
    """Yield every text of a submitted config that names data, 1.x inputs and multi-task included."""
    training = config.get("training")
    if not isinstance(training, Mapping):
        training = {"systems": config.get("systems")}
    at = ("training",) if "training" in config else ()
    sections: list[tuple[tuple[str, ...], Json]] = [(at, training)]
    branches = training.get("data_dict")
    for name, branch in branches.items() if isinstance(branches, Mapping) else ():
        sections.append((("training", "data_dict", name), branch))
    for path, section in sections:
        if isinstance(section, Mapping):
            yield from named((*path, "systems"), section.get("systems"))
            for name in ("training_data", "validation_data"):
                data = section.get(name)
                if isinstance(data, Mapping):
                    for use in named((*path, name, "systems"), data.get("systems")):
                        yield replace(use, validates=name == "validation_data")


def settle_data(draft: Draft, datasets: Mapping[str, DatasetFacts]) -> dict[Path, list[SystemSummary]] | None:
    """Replace every reference by the systems it stands for, and return them by the path of their section.

    None when there is a reference that stands for nothing.
    """
    found: dict[Path, list[SystemSummary]] = {}
    is_complete = True
    _check_branches(draft)
    for task in draft.tasks():
        place = draft.data_section(task)
        if isinstance(draft.get(*place), dict) and not isinstance(draft.get(*place, "training_data"), dict):
            hint = 'Add "training_data": {"systems": ["dataset:NAME"]}.'
            draft.refuse("missing-key", (*place, "training_data"), "is missing", hint)
        for name in ("training_data", "validation_data"):
            path = (*place, name)
            if not isinstance(draft.get(*path), dict):
                continue
            systems = settle_systems(draft, (*path, "systems"), datasets)
            if systems is None:
                is_complete = False
            else:
                summaries = [system.summary for system in systems]
                _check_types(draft, path, draft.model(task), systems)
                _check_labels(draft, path, task, systems)
                check_batches(draft, path, summaries)
                found[path] = summaries
        _check_overlap(draft, place)
    _check_untrained(draft, found)
    return found if is_complete else None


def _check_branches(draft: Draft) -> None:
    """Refuse multi-task sections that do not name the same tasks as `model_dict`."""
    tasks = [task for task in draft.tasks() if task]
    for path in (("training", "data_dict"), ("loss_dict",), ("training", "model_prob"), ("training", "num_epoch_dict")):
        section = draft.get(*path)
        is_optional = path[-1] in ("model_prob", "num_epoch_dict")
        if not tasks or (is_optional and not section) or not isinstance(section, dict | NoneType):
            continue
        section = section or {}
        for name in [name for name in tasks if name not in section]:
            draft.refuse("missing-key", path, f"says nothing about the task {short(name)}", f"Add {name!r}.")
        for name in [name for name in section if name not in tasks]:
            draft.refuse("unknown-key", (*path, name), "is no task of model.model_dict", _near(name, tasks))


def _near(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(names)}."


def settle_systems(draft: Draft, place: Path, datasets: Mapping[str, DatasetFacts]) -> list[System] | None:
    """Pin and expand the data references at `place`; None when some of it is wrong."""
    value = draft.get(*place)
    if value == []:
        draft.refuse("missing-key", place, "names no data", f'Write {{"{place[-1]}": ["dataset:NAME"]}}.')
    if not value:
        return None
    texts = [value] if isinstance(value, str) else value
    systems: list[System] = []
    notes: list[str] = []
    is_whole = True
    for index, text in enumerate(texts):
        facts, ref = datasets.get(text), DatasetRef.parse(text)
        chosen = (
            _chosen(draft, place if isinstance(value, str) else (*place, index), ref, facts) if facts and ref else None
        )
        if chosen is None or facts is None or ref is None:
            is_whole = False
            continue
        systems += [System(f"dataset:{facts.name}@{facts.version}/{item.name}", item) for item in chosen]
        notes += _expansion(text, ref, facts, len(chosen))
    if not is_whole:
        return None
    refs = [system.ref for system in systems]
    if refs != value:
        note = "; ".join(dict.fromkeys(notes)) or None
        draft.put(place, refs, "derived", source=digests(texts, datasets), note=note)
    return systems


def _chosen(draft: Draft, place: Path, ref: DatasetRef, facts: DatasetFacts) -> Sequence[SystemSummary] | None:
    """Return the systems of one reference: one, all below a directory, or all."""
    if facts.structures:
        message = f"names {short(str(ref))}, whose structures have no labels: nothing is learned or measured from them"
        draft.refuse("no-labels", place, message, "`cairn relax MODEL dataset:NAME` relaxes them; name labelled data.")
        return None
    if ref.system is None:
        return facts.systems
    wanted = ref.system.strip("/")
    exact = [system for system in facts.systems if system.name == wanted]
    below = [system for system in facts.systems if system.name.startswith(wanted + "/")]
    if exact or below:
        return exact or below
    names = [system.name for system in facts.systems]
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.6)
    listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    message = f"names {short(str(ref))}, but dataset {facts.name}@{facts.version} has no system {wanted}"
    draft.refuse("unknown-system", place, message, (f"Did you mean {near[0]}? " if near else "") + f"It has {listed}.")
    return None


def _expansion(text: str, ref: DatasetRef, facts: DatasetFacts, count: int) -> list[str]:
    said = newest(ref, facts)
    if ref.system is None or count > 1:
        said.append(f"{text} stands for {counted(count, 'system')}")
    return said


def place_of(draft: Draft, place: Path, systems: Sequence[System], system: System) -> Path:
    """Return the submitted place of a system: its own entry when every entry stands for one system."""
    submitted = draft.changed.get(pointer(*place))
    entries = submitted.losing[0].value if submitted and submitted.losing else draft.get(*place)
    is_list = isinstance(entries, list) and len(entries) == len(systems)
    return (*place, systems.index(system)) if is_list else place


def _check_types(draft: Draft, path: Path, model: Path, systems: Sequence[System]) -> None:
    type_map = draft.get(*model, "type_map")
    if not isinstance(type_map, list):
        return
    for system in systems:
        missing = [name for name in system.summary.type_map if name not in type_map]
        if missing:
            verb = "has" if any(system.summary.elements.get(name) for name in missing) else "lists"
            message = f"names {system.ref}, which {verb} {', '.join(missing)}: not in model.type_map {short(type_map)}"
            hint = f"Add {', '.join(missing)} to type_map, or leave this system out."
            if draft.is_inherited(*model, "type_map"):
                wider = short([*type_map, *missing])
                hint = f'Write the base\'s type_map with what is new: "type_map": {wider}; or leave this system out.'
            draft.refuse("element-not-in-type-map", place_of(draft, (*path, "systems"), systems, system), message, hint)


def _check_untrained(draft: Draft, found: Mapping[Path, list[SystemSummary]]) -> None:
    """Say which types of the type map no training system has, of any task."""
    sections = [systems for path, systems in found.items() if path[-1] == "training_data"]
    if not sections or len(sections) < len(draft.tasks()):
        return
    present = {name for systems in sections for system in systems for name, count in system.elements.items() if count}
    path = (*draft.model(draft.tasks()[0]), "type_map")
    absent = [name for name in draft.get(*path) or [] if name not in present]
    if draft.base_types is not None:
        _check_unheard(draft, path, [name for name in absent if name not in draft.base_types])
    elif absent:
        message = f"names {', '.join(absent)}, which no training system has"
        draft.warn("untrained-element", path, message, "Nothing is learned about it.")


def _check_unheard(draft: Draft, path: Path, names: Sequence[str]) -> None:
    """Refuse elements that neither the base knows nor any data have. What the base knows needs no data."""
    assert draft.base is not None
    if names:
        message = f"names {', '.join(names)}, which neither {draft.base.name} knows nor any training system has"
        draft.refuse("element-not-in-base", path, message, "Remove it, or add data that have it.")


def _check_labels(draft: Draft, path: Path, task: str, systems: Sequence[System]) -> None:
    for term, label in LABELS.items():
        if not is_used(draft, task, term) or (term == "pf" and draft.get(*draft.loss(task), "use_default_pf")):
            continue
        without = [system for system in systems if label not in system.summary.labels]
        names = ", ".join(system.ref for system in without[:3]) + (" …" if len(without) > 3 else "")
        if len(without) == len(systems) and path[-1] == "training_data":
            message = f"has no {label} in any system, but the loss has a term for it (pref_{term})"
            hint = f"Set start_pref_{term} and limit_pref_{term} to 0, or use data with {label}."
            draft.refuse("missing-label", (*path, "systems"), message, hint)
        elif without:
            message = f"has no {label} in {names}: DeePMD-kit leaves that term out for their frames"
            draft.warn("missing-label", (*path, "systems"), message)


def _check_overlap(draft: Draft, section: Path) -> None:
    training = draft.get(*section, "training_data", "systems") or []
    validation = draft.get(*section, "validation_data", "systems") or []
    both = [ref for ref in validation if ref in training] if isinstance(validation, list) else []
    if both:
        message = f"names {', '.join(both[:3])}{' …' if len(both) > 3 else ''}, which is also trained on"
        draft.warn("overlap", (*section, "validation_data", "systems"), message, "Validate on data held back.")
