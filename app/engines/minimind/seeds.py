"""Which seeds a MiniMind training has, where in its config they stand, and what is drawn with each."""

from collections.abc import Mapping

from app.engines.documents import parts
from app.engines.draft import Draft
from app.engines.seeds import RULE, derive

PLACES: Mapping[str, str] = {"/model/seed": "model", "/data/seed": "data.order", "/training/seed": "training"}
"""Name of the component that each seed of a config belongs to."""


def plant(draft: Draft, root: int) -> dict[str, int]:
    """Write every seed that is still missing into a config, and return all of them by component."""
    for at, name in PLACES.items():
        if draft.get(*parts(at)) is None:
            note = f"derived from root seed {root} for {name}"
            draft.put(tuple(parts(at)), derive(root, name), "seed", source=RULE, note=note)
    return {name: draft.get(*parts(at)) for at, name in PLACES.items()}


def of_tensor(model_seed: int, name: str) -> int:
    """Return the seed that one tensor is drawn with: another layer, or a larger vocabulary, moves no other tensor."""
    return derive(model_seed, name)


def of_epoch(data_seed: int, epoch: int) -> int:
    """Return the seed of the order in which one epoch, counted from 0, goes through the data."""
    return derive(data_seed, f"epoch.{epoch}")
