"""Jobs of kind relax: structures go downhill by a model's forces, the same bits every time."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal

from pydantic import Field

from app.engines.base import DatasetFacts, DataUse, EngineResolution, Model, ModelUse
from app.engines.deepmd import assumed, familiar, model_refs, physics, structure_refs
from app.engines.deepmd.document import Way
from app.engines.deepmd.draft import Draft, counted
from app.engines.deepmd.familiar import Familiar
from app.engines.deepmd.freezing import FROZEN
from app.engines.deepmd.model_refs import Named, Reference
from app.engines.deepmd.structure_refs import Chosen
from app.engines.deepmd.structures import Structure
from app.engines.layers import Layer, merge
from app.engines.references import named
from app.engines.seeds import derive
from app.wire.base import Message
from app.wire.relaxing import Finding
from app.wire.submission import Determinism

Json = Any

REPORT = "relax.json"
TRAJECTORY = "trajectory.extxyz"

MOST_TOLD = 30
"""Warnings of distances that do not occur in training data."""

STARTS = "starts"
"""Name of the seed that displaces the starts beyond the first."""


class RelaxDocument(Message):
    """What is relaxed, by which models, how, and how often."""

    models: list[Reference] = Field(
        min_length=1, max_length=20, description=f"Each relaxes every structure by itself: {model_refs.MODELS}"
    )
    structures: list[Reference] = Field(
        default=[], max_length=1000, description="`dataset:NAME[@VERSION][/STRUCTURE]` of datasets of structures."
    )
    inline: list[Structure] = Field(default=[], max_length=20, description="Structures written out here.")
    head: str | None = Field(default=None, min_length=1, max_length=100, description=model_refs.HEAD)
    optimizer: Literal["LBFGS", "BFGS", "FIRE"] = Field(default="LBFGS", description="ASE's, with its own settings.")
    fmax: float = Field(default=0.05, gt=0, le=100, description="Ends when no force is larger, in eV/Å.")
    max_steps: int = Field(default=500, ge=0, le=100_000, description="Steps of the optimiser at most, of each run.")
    cell: Literal["fixed", "filter"] = Field(
        default="fixed", description="filter: the cell relaxes, too, by ASE's FrechetCellFilter."
    )
    pressure: float = Field(default=0.0, ge=-1000, le=10_000, description="On the cell, in GPa; with `cell: filter`.")
    on_unphysical: Literal["refuse", "warn"] = Field(
        default="refuse", description="warn: structures that can be none are relaxed all the same, and it is said."
    )
    starts: int = Field(
        default=1, ge=1, le=200, description="Runs of each structure: the first as it came, the others displaced."
    )
    sigma: float = Field(default=0.1, gt=0, le=2, description="By how much, in Å: the width of a normal distribution.")
    repeat: int = Field(
        default=1,
        ge=1,
        le=100,
        description="How often all is done, in all: compared bit for bit, the last time in a process of its own.",
    )
    form: Literal["checkpoint", "frozen"] = Field(
        default="checkpoint", description="frozen: checkpoints are frozen first, and run as LAMMPS runs them."
    )
    compare: list[Literal["threads", "form"]] = Field(
        default=[], max_length=2, description="Also done with another number of threads, or from the other form."
    )


DEFAULTS = {
    name: field.get_default(call_default_factory=True)
    for name, field in RelaxDocument.model_fields.items()
    if not field.is_required()
}


class Relaxing:
    """The kind relax. See `app.engines.base.Task`."""

    title = "Relaxation"
    unit = "frame"
    worker = "worker.engines.deepmd.relaxing:Relaxation"
    on_data = False
    report: str | None = None
    relaxed: str | None = REPORT
    resumes = True
    determinism: Determinism | None = "strict"
    document: type[Message] = RelaxDocument

    def model_uses(self, config: Mapping[str, Json]) -> Iterator[ModelUse]:
        """Yield every entry of `models`."""
        return model_refs.uses(config)

    def data_uses(self, config: Mapping[str, Json]) -> Iterator[DataUse]:
        """Yield every entry of `structures`. Must survive a malformed config."""
        return named(("structures",), config.get("structures"))

    def resolve(
        self,
        config: Mapping[str, Json],
        *,
        root_seed: int,
        datasets: Mapping[str, DatasetFacts],
        models: Mapping[str, Sequence[Model]],
    ) -> EngineResolution:
        """Pin models and structures, and say what is odd about them. How many frames it takes nobody knows before."""
        merged = merge([Layer("explicit", config), Layer("default", deepcopy(DEFAULTS))])
        draft = Draft(config, deepcopy(merged.document), Way(), candidates=merged.candidates)
        found = model_refs.settle(draft, models) or []
        sections = [(one, model_refs.energy_section(draft, one, draft.config["head"])) for one in found]
        chosen = structure_refs.settle(draft, datasets)
        for each in chosen:
            _check_structure(draft, each)
            for one, section in sections:
                if section is not None:
                    _check_elements(draft, each, one, section["type_map"])
        for one, section in sections:
            _check_model(draft, one, section)
        _compare(draft, found, chosen)
        _check_options(draft)
        seeds = {STARTS: derive(root_seed, STARTS)} if draft.config["starts"] > 1 else {}
        return EngineResolution(
            draft.config, draft.origins(), seeds, 0, problems=draft.problems, warnings=draft.warnings
        )

    def headline(self) -> Sequence[str]:
        """Return which run goes on and which time all is done, and the largest force and the energy of few runs."""
        return ("relax/run", "repeat/time", "relax/fmax", "relax/energy_per_atom")


def _compare(draft: Draft, found: Sequence[Named], chosen: Sequence[Chosen]) -> None:
    """Warn of distances that do not occur in the data of the models, where these are known."""
    strange = [
        (each, finding)
        for name, known in _familiar(found, draft.config["head"])
        for each in chosen
        if each.distances is not None
        for finding in familiar.findings(each.distances, known, name)
    ]
    for each, finding in strange[:MOST_TOLD]:
        _tell(draft, each, finding)
    if left := strange[MOST_TOLD:]:
        message = (
            f"names {counted(len({each.name for each, _ in left}), 'structure')} more with {len(left)} such distances"
        )
        draft.warn("outside-training", ("structures",), message, "Relax fewer at once to be told of each.")


def _familiar(found: Sequence[Named], head: str | None) -> Iterator[tuple[str, Familiar]]:
    """Yield what occurs in the data of the models, with their names: replicas have the same data."""
    alike: list[tuple[Familiar, list[str]]] = []
    for one in found:
        known = familiar.of_model(one.model, head)
        names = next((names for other, names in alike if other == known), None)
        if names is not None:
            names.append(one.name)
        elif known is not None:
            alike.append((known, [one.name]))
    for known, names in alike:
        yield names[0] + (f" (and {len(names) - 1} more)" if names[1:] else ""), known


def _check_model(draft: Draft, one: Named, section: Mapping[str, Json] | None) -> None:
    if section is None:
        return
    fitting = section.get("fitting_net") or {}
    if "spin" in section or fitting.get("numb_fparam") or fitting.get("numb_aparam"):
        message = f"names {one.name}, which needs spins or parameters that structures do not have"
        draft.refuse("needs-parameters", ("models", one.index), message, "Name a model of energies without them.")
    if one.model.facts is not None and one.model.facts.form == FROZEN:
        if "form" in draft.config["compare"]:
            message = f"names {one.name}, a frozen model: there is no other form of it to compare with"
            draft.refuse("already-frozen", ("models", one.index), message, "Leave `form` out of `compare`.")
        elif draft.config["form"] == "checkpoint":
            draft.warn(
                "already-frozen", ("models", one.index), f"names {one.name}, which is frozen: it is run as it is"
            )


def _check_options(draft: Draft) -> None:
    if draft.config["cell"] == "fixed" and draft.is_explicit("pressure"):
        draft.ignore(("pressure",), "the cell is fixed")
        draft.warn("ignored", ("pressure",), "has no effect: the cell is fixed", 'Add "cell": "filter".')
    if draft.config["starts"] == 1 and draft.is_explicit("sigma"):
        draft.ignore(("sigma",), "there is one start, as it came")


def _check_structure(draft: Draft, each: Chosen) -> None:
    for finding in each.findings:
        _tell(draft, each, finding)
    if draft.config["cell"] == "filter" and not each.periodic:
        message = f"names {each.name}, which has no cell to relax"
        draft.refuse("no-cell", each.place, message, 'Give it one, or leave "cell" at "fixed".')
    if draft.config["cell"] == "filter":
        _check_empty(draft, each)


def _check_empty(draft: Draft, each: Chosen) -> None:
    """Refuse to relax a cell that is empty on purpose, unless told to go on."""
    for finding in (one for one in each.findings if one.code == assumed.PARTLY_PERIODIC):
        message = f"names {each.name}: {finding.message}, and the cell would close over it"
        if draft.config["on_unphysical"] == "refuse":
            hint = 'Leave "cell" at "fixed", or say `on_unphysical: warn`.'
            draft.refuse(finding.code, each.place, message, hint)


def _check_elements(draft: Draft, each: Chosen, one: Named, type_map: Sequence[str]) -> None:
    missing = sorted(set(each.elements) - set(type_map))
    if missing:
        message = f"names {each.name} with {', '.join(missing)}: not in {one.name}'s type map ({', '.join(type_map)})"
        draft.refuse("element-not-in-type-map", each.place, message, "Name a model that knows it.")


def _tell(draft: Draft, each: Chosen, finding: Finding) -> None:
    """Refuse what can be no structure, unless told to go on; atoms are counted from 0."""
    message = f"names {each.name}: {finding.message}"
    if finding.refused and (draft.config["on_unphysical"] == "refuse" or finding.code in physics.HOPELESS):
        hint = "Atoms are counted from 0. Mend it, or say `on_unphysical: warn` to relax it all the same."
        draft.refuse(finding.code, each.place, message, physics.HOPELESS.get(finding.code, hint))
    else:
        draft.warn(finding.code, each.place, message, "Atoms are counted from 0.")
