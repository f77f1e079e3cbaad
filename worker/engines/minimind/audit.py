"""The seed audit of a MiniMind training: what the model began with is decided by `model.seed` and by nothing else."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from app.engines.seeds import derive
from app.wire.transfer import TransferPlan
from worker import audit, rng
from worker.audit import Component, Findings
from worker.checkpoint import fingerprint
from worker.engines.minimind import model, names

Json = Any

NAME, KEY = "model", "/model/seed"


def check(tensors: Mapping[str, torch.Tensor], section: Mapping[str, Json], plan: TransferPlan | None) -> Findings:
    """Check the tensors that a training began with, before any of them came from a base.

    The model is built again by the same seed and by another one, with every global generator in another state. With a
    plan that reinitialises nothing there is nothing to look at.

    Raises:
        TrainingFailure: The seed does not arrive.
    """
    component = Component(NAME, KEY, section["seed"])
    if plan is not None and not any(_fresh(plan)):
        return {NAME: audit.from_base(component)}

    def build(seeds: Mapping[str, int]) -> dict[str, str | None]:
        with rng.preserved():
            rng.seed_all(derive(0, "audit"))
            return {NAME: fingerprint(names.tensors(model.build({**section, "seed": seeds[NAME]})))}

    return audit.examine({NAME: component}, {NAME: fingerprint(tensors)}, build)


def _fresh(plan: TransferPlan) -> Iterator[str]:
    """Yield the names of the tensors of which some entries are drawn by the new model's seed."""
    for tensor in plan.tensors:
        has_new = any(index < 0 for item in tensor.maps for index in item.indices)
        if tensor.verb in ("reinitialised", "padded") or has_new:
            yield tensor.name
