"""Jobs of kind model-devi: what may be said of them, and what a submission stands for. The numbers are `dp model-devi`'s."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Annotated, Any

from pydantic import Field

from app.engines.base import DatasetFacts, DataUse, EngineResolution, Model, ModelUse
from app.engines.deepmd import data
from app.engines.deepmd.document import Way, short
from app.engines.deepmd.draft import Draft, counted
from app.engines.documents import pointer
from app.engines.layers import Layer, merge
from app.engines.references import named
from app.wire.base import Message

Json = Any

Reference = Annotated[str, Field(min_length=1, max_length=300)]


class DeviationDocument(Message):
    """What `dp model-devi` is asked: by how much the models of an ensemble disagree on each frame of some data."""

    models: list[Reference] = Field(
        min_length=1,
        max_length=200,
        description="At least two models in all: `group:ID[@STEP]` (every replica), `job:ID[@STEP]`, or `NAME[@VERSION]` "
        "of a base model. Without a step: the newest checkpoint.",
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
    document: type[Message] = DeviationDocument

    def model_uses(self, config: Mapping[str, Json]) -> Iterator[ModelUse]:
        """Yield every entry of `models`."""
        for index, text in enumerate(config["models"]):
            yield ModelUse(pointer("models", index), text)

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
        if systems is not None and type_map is not None:
            _check_elements(draft, systems, type_map)
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
    texts = draft.config["models"]
    if any(text not in models for text in texts):
        return None
    found = [(index, model) for index, text in enumerate(texts) for model in models[text]]
    if len(found) < 2:
        message = f"names {counted(len(found), 'model')}, but a deviation is between at least two"
        hint = "Name more models, or a group: trainings submitted with `replicas` are one."
        draft.refuse("too-few-models", ("models",), message, hint)
        return None
    names = [model.name for _, model in found]
    if names != texts:
        several = [
            f"{text} stands for {counted(len(models[text]), 'model')}" for text in texts if len(models[text]) > 1
        ]
        draft.put(("models",), names, "derived", note="; ".join(several) or "the newest checkpoint of each")
    _check_twice(draft, found)
    maps = {name: _type_map(draft, index, model) for (index, model), name in zip(found, names, strict=True)}
    return _common(draft, found, maps)


def _check_twice(draft: Draft, found: Sequence[tuple[int, Model]]) -> None:
    seen: dict[str, Model] = {}
    for index, model in found:
        first = seen.setdefault(model.sha256, model)
        if first is not model:
            same = "twice" if first.name == model.name else f"and {first.name}, which are the same file"
            message = f"names {model.name} {same}: equal models only make the deviation look smaller"
            draft.refuse("same-model-twice", ("models", index), message, "Name it once.")


def _type_map(draft: Draft, index: int, model: Model) -> list[str] | None:
    """Return the type map of a model; None when it is not one model with energies and forces."""
    section = _section(model)
    if section is None:
        message = f"names {model.name}, which holds several models, one per task"
        draft.refuse("multi-task-model", ("models", index), message, "Name models of single-task trainings.")
        return None
    kind = (section.get("fitting_net") or {}).get("type", "ener")
    if kind != "ener":
        message = f"names {model.name}, which has no energies and forces: its fitting net is of type {kind}"
        draft.refuse("not-an-energy-model", ("models", index), message, "Name models of energies.")
        return None
    return list(section["type_map"])


def _section(model: Model) -> Mapping[str, Json] | None:
    """Return the model section; None when there are several."""
    if model.facts is not None:
        branches = model.facts.branches
        return {**branches[0].model, "type_map": branches[0].type_map} if len(branches) == 1 else None
    assert model.config is not None, f"nothing is known of {model.name}"
    section: Mapping[str, Json] = model.config["model"]
    return None if "model_dict" in section else section


def _common(draft: Draft, found: Sequence[tuple[int, Model]], maps: Mapping[str, list[str] | None]) -> list[str] | None:
    """Return the type map that all models have: atoms are numbered by it, so `dp model-devi` wants one order, too."""
    first = found[0][1]
    ours = maps[first.name]
    for index, model in found:
        theirs = maps[model.name]
        if ours is None or theirs is None or theirs == ours:
            continue
        what = "in another order" if sorted(theirs) == sorted(ours) else "another one"
        message = f"names {model.name} with type_map {short(theirs)}: {what} than {short(ours)} of {first.name}"
        draft.refuse("type-maps-differ", ("models", index), message, "Name models that were trained with one type_map.")
    return ours if all(maps.values()) else None


def _check_elements(draft: Draft, systems: Sequence[data.System], type_map: Sequence[str]) -> None:
    for system in systems:
        missing = [name for name in system.summary.type_map if name not in type_map]
        if missing:
            message = (
                f"names {system.ref} with {', '.join(missing)}: not in the models' type_map {short(list(type_map))}"
            )
            place = data.place_of(draft, ("data",), systems, system)
            draft.refuse(
                "element-not-in-type-map", place, message, "Leave this system out, or name models that know it."
            )
