"""Jobs of kind test: what may be said of them, and what a submission stands for. The numbers are those of `dp test`."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from pydantic import Field

from app.engines.base import DatasetFacts, DataUse, EngineResolution, Model, ModelUse
from app.engines.deepmd import data, model_refs
from app.engines.deepmd.document import Way
from app.engines.deepmd.draft import Draft
from app.engines.deepmd.model_refs import Named, Reference
from app.engines.layers import Layer, merge
from app.engines.references import named
from app.wire.base import Message
from app.wire.measuring import Quantity
from app.wire.submission import Determinism

Json = Any

COMPARED = ("energy", "force", "virial")
"""Labels that predictions are compared with."""

REPORT, PLOTS = "test.json", "plots.json"

QUANTITIES = (
    Quantity(key="rmse_ea", title="Energy RMSE", unit="eV/atom", headline=True),
    Quantity(key="mae_ea", title="Energy MAE", unit="eV/atom"),
    Quantity(key="rmse_f", title="Force RMSE", unit="eV/Å", headline=True),
    Quantity(key="mae_f", title="Force MAE", unit="eV/Å"),
    Quantity(key="rmse_va", title="Virial RMSE", unit="eV/atom", headline=True),
    Quantity(key="mae_va", title="Virial MAE", unit="eV/atom"),
    Quantity(key="rmse_fw", title="Weighted force RMSE", unit="eV/Å"),
    Quantity(key="mae_fw", title="Weighted force MAE", unit="eV/Å"),
)
"""The errors that tables show, of those that `dp test` prints, under its names for them."""


class ModelTestDocument(Message):
    """What `dp test` is asked: the errors of a model on each system of some data. Several models are compared."""

    models: list[Reference] = Field(min_length=1, max_length=200, description=model_refs.MODELS)
    data: list[Reference] = Field(
        min_length=1, max_length=10_000, description="`dataset:NAME[@VERSION][/SYSTEM]`, in the order of the output."
    )
    numb_test: int = Field(
        default=0, ge=0, description="At most so many frames of each system, from the first; 0: all."
    )
    detail: bool = Field(
        default=True, description="Also write every label beside its prediction, as `dp test -d results` does."
    )
    worst: int = Field(
        default=10, ge=0, le=1000, description="How many of the worst frames are kept, by force and by energy each."
    )
    head: str | None = Field(default=None, min_length=1, max_length=100, description=model_refs.HEAD)


DEFAULTS = {name: field.default for name, field in ModelTestDocument.model_fields.items() if not field.is_required()}


class ModelTest:
    """The kind test. See `app.engines.base.Task`."""

    title = "Test"
    unit = "frame"
    worker = "worker.engines.deepmd.testing:ModelTest"
    on_data = True
    report: str | None = REPORT
    relaxed: str | None = None
    resumes = False
    determinism: Determinism | None = None
    document: type[Message] = ModelTestDocument

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
        """Pin models and data, and see that every model knows the data's elements. Nothing here is random."""
        merged = merge([Layer("explicit", config), Layer("default", DEFAULTS)])
        draft = Draft(config, deepcopy(merged.document), Way(), candidates=merged.candidates)
        found = model_refs.settle(draft, models) or []
        maps = [(one, _type_map(draft, one)) for one in found]
        systems = data.settle_systems(draft, ("data",), datasets) or []
        model_refs.check_once(draft, systems)
        _check_labels(draft, systems)
        for one, type_map in maps:
            if type_map is not None:
                model_refs.check_elements(draft, systems, type_map, f"{one.name}'s")
        most = draft.config["numb_test"]
        frames = sum(min(system.summary.frames, most or system.summary.frames) for system in systems)
        return EngineResolution(
            draft.config, draft.origins(), {}, frames, problems=draft.problems, warnings=draft.warnings
        )

    def headline(self) -> Sequence[str]:
        """Return the errors over all frames so far: in the end those of the whole data."""
        return ("test/rmse_f", "test/rmse_e", "test/rmse_v", "test/mae_f", "test/mae_e")


def _type_map(draft: Draft, one: Named) -> list[str] | None:
    """Return the type map of the model that is tested; None when it is none with energies and forces alone."""
    section = model_refs.energy_section(draft, one, draft.config["head"])
    if section is None:
        return None
    if "spin" in section:
        message = f"names {one.name}, a model with spins: their errors are not measured here"
        draft.refuse("spin-model", ("models", one.index), message, "Use `dp test` for it.")
        return None
    return list(section["type_map"])


def _check_labels(draft: Draft, systems: Sequence[data.System]) -> None:
    """Refuse data without any label to compare with, and say which systems have none."""
    bare = [system for system in systems if not set(COMPARED) & set(system.summary.labels)]
    names = ", ".join(system.ref for system in bare[:3]) + (" …" if len(bare) > 3 else "")
    if bare and len(bare) == len(systems):
        message = f"names {names} without energies, forces and virials: there is nothing to compare with"
        draft.refuse("missing-label", ("data",), message, "Name data with labels.")
    elif bare:
        draft.refuse("missing-label", ("data",), f"names {names} without any label", "Leave it out.")
