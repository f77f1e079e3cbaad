"""Jobs of kind freeze: a checkpoint becomes a `frozen_model.pth`, which LAMMPS and ASE run without Python code of the model."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from pydantic import Field

from app.engines.base import DatasetFacts, DataUse, EngineResolution, Model, ModelUse
from app.engines.deepmd import model_refs
from app.engines.deepmd.document import Way
from app.engines.deepmd.draft import Draft
from app.engines.deepmd.model_refs import Named, Reference
from app.engines.layers import Layer, merge
from app.wire.base import Message
from app.wire.submission import Determinism

Json = Any

FROZEN = "frozen model"
"""What an inspection calls the form of a file that is frozen already."""


class FreezeDocument(Message):
    """What `dp freeze` is asked: a file of its own for each of the models."""

    models: list[Reference] = Field(min_length=1, max_length=200, description=model_refs.MODELS)
    head: str | None = Field(default=None, min_length=1, max_length=100, description=model_refs.HEAD)


class Freezing:
    """The kind freeze. See `app.engines.base.Task`."""

    title = "Freeze"
    unit = "model"
    worker = "worker.engines.deepmd.freezing:Freeze"
    on_data = False
    report: str | None = None
    relaxed: str | None = None
    resumes = False
    determinism: Determinism | None = None
    document: type[Message] = FreezeDocument

    def model_uses(self, config: Mapping[str, Json]) -> Iterator[ModelUse]:
        """Yield every entry of `models`."""
        return model_refs.uses(config)

    def data_uses(self, config: Mapping[str, Json]) -> Iterator[DataUse]:
        """Yield nothing: weights are all that it needs."""
        return iter(())

    def resolve(
        self,
        config: Mapping[str, Json],
        *,
        root_seed: int,
        datasets: Mapping[str, DatasetFacts],
        models: Mapping[str, Sequence[Model]],
    ) -> EngineResolution:
        """Pin the models, and see that each can be frozen. Nothing here is random."""
        merged = merge([Layer("explicit", config), Layer("default", {"head": None})])
        draft = Draft(config, deepcopy(merged.document), Way(), candidates=merged.candidates)
        found = model_refs.settle(draft, models) or []
        for one in found:
            _check(draft, one)
        return EngineResolution(draft.config, draft.origins(), {}, len(found), problems=draft.problems)

    def headline(self) -> Sequence[str]:
        """Return by how much the frozen model's numbers differ from the checkpoint's."""
        return ("freeze/force_difference", "freeze/energy_difference", "freeze/tensors")


def _check(draft: Draft, one: Named) -> None:
    if one.model.facts is not None and one.model.facts.form == FROZEN:
        message = f"names {one.name}, which is frozen already"
        draft.refuse("already-frozen", ("models", one.index), message, "Download it as it is.")
        return
    model_refs.head_section(draft, one, draft.config["head"])
