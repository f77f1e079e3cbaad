"""Jobs of kind model-devi: what may be said of them, and what a submission stands for. The numbers are `dp model-devi`'s."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from pydantic import Field

from app.engines.base import DatasetFacts, DataUse, EngineResolution, Model, ModelUse
from app.engines.deepmd import data, model_refs
from app.engines.deepmd.document import Way, short
from app.engines.deepmd.draft import Draft, counted
from app.engines.deepmd.model_refs import Named, Reference
from app.engines.layers import Layer, merge
from app.engines.references import named
from app.wire.base import Message
from app.wire.submission import Determinism

Json = Any


class DeviationDocument(Message):
    """What `dp model-devi` is asked: by how much the models of an ensemble disagree on each frame of some data."""

    models: list[Reference] = Field(
        min_length=1,
        max_length=200,
        description=f"At least two models in all: {model_refs.MODELS}",
    )
    data: list[Reference] = Field(
        min_length=1, max_length=10_000, description="`dataset:NAME[@VERSION][/SYSTEM]`, in the order of the output."
    )
    relative: float | None = Field(
        default=None,
        ge=0,
        description="Level (eV/Å) of the relative deviation of forces: each atom's deviation is divided by the size of "
        "its mean force plus this.",
    )
    atomic: bool = Field(default=False, description="Also write the force deviation of every atom.")
    frequency: int = Field(
        default=1,
        ge=1,
        description="Steps between two frames of a trajectory: the first column of the output counts in it.",
    )
    stride: int = Field(default=1, ge=1, description="Only every so manieth frame of each system, from the first on.")
    limit: int | None = Field(default=None, ge=1, description="At most so many frames of each system.")


DEFAULTS = {name: field.default for name, field in DeviationDocument.model_fields.items() if not field.is_required()}


class ModelDeviation:
    """The kind model-devi. See `app.engines.base.Task`."""

    title = "Model deviation"
    unit = "frame"
    worker = "worker.engines.deepmd.deviation:Deviation"
    on_data = True
    report: str | None = None
    relaxed: str | None = None
    resumes = False
    determinism: Determinism | None = None
    document: type[Message] = DeviationDocument

    def model_uses(self, config: Mapping[str, Json]) -> Iterator[ModelUse]:
        """Yield every entry of `models`."""
        return model_refs.uses(config)

    def data_uses(self, config: Mapping[str, Json]) -> Iterator[DataUse]:
        """Yield every entry of `data`. Must survive a malformed config."""
        return named(("data",), config.get("data"))

    def resolve(
        self,
        config: Mapping[str, Json],
        *,
        root_seed: int,
        datasets: Mapping[str, DatasetFacts],
        models: Mapping[str, Sequence[Model]],
    ) -> EngineResolution:
        """Pin models and data, and see that they fit each other. Nothing here is random."""
        merged = merge([Layer("explicit", config), Layer("default", DEFAULTS)])
        draft = Draft(config, deepcopy(merged.document), Way(), candidates=merged.candidates)
        type_map = _settle_models(draft, models)
        systems = data.settle_systems(draft, ("data",), datasets)
        model_refs.check_once(draft, systems or ())
        if systems is not None and type_map is not None:
            model_refs.check_elements(draft, systems, type_map, "the models'")
        frames = sum(frames_of(draft.config, system.summary.frames) for system in systems or ())
        return EngineResolution(
            draft.config, draft.origins(), {}, frames, problems=draft.problems, warnings=draft.warnings
        )

    def headline(self) -> Sequence[str]:
        """Return the deviations that DP-GEN selects by, then the others."""
        return ("devi/max_f", "devi/avg_f", "devi/max_v", "devi/e")


def frames_of(config: Mapping[str, Json], frames: int) -> int:
    """Return how many frames are looked at of a system that has `frames`."""
    chosen = -(-frames // int(config["stride"]))
    return min(chosen, config["limit"] or chosen)


def _settle_models(draft: Draft, models: Mapping[str, Sequence[Model]]) -> list[str] | None:
    """Pin the models, and return their common type map; None when something is wrong with them."""
    found = model_refs.settle(draft, models)
    if found is None:
        return None
    if len(found) < 2:
        message = f"names {counted(len(found), 'model')}, but a deviation is between at least two"
        hint = "Name more models, or a group: trainings submitted with `replicas` are one."
        draft.refuse("too-few-models", ("models",), message, hint)
        return None
    maps = {one.name: _type_map(draft, one) for one in found}
    return _common(draft, found, maps)


def _type_map(draft: Draft, one: Named) -> list[str] | None:
    """Return the type map of a model; None when it is not one model with energies and forces."""
    if list(model_refs.sections(one.model)) != [""]:
        message = f"names {one.name}, which has a model for each of its tasks"
        draft.refuse("multi-task-model", ("models", one.index), message, "Name models of single-task trainings.")
        return None
    section = model_refs.energy_section(draft, one, None)
    return list(section["type_map"]) if section is not None else None


def _common(draft: Draft, found: Sequence[Named], maps: Mapping[str, list[str] | None]) -> list[str] | None:
    """Return the type map that all models have: atoms are numbered by it, so `dp model-devi` wants one order, too."""
    first = found[0].name
    ours = maps[first]
    for one in found:
        theirs = maps[one.name]
        if ours is None or theirs is None or theirs == ours:
            continue
        what = "in another order" if sorted(theirs) == sorted(ours) else "another one"
        message = f"names {one.name} with type_map {short(theirs)}: {what} than {short(ours)} of {first}"
        draft.refuse(
            "type-maps-differ", ("models", one.index), message, "Name models that were trained with one type_map."
        )
    return ours if all(maps.values()) else None
