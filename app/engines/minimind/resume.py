"""Checks of a training that is resumed: what must be as it was, and what then is not the same run any more."""

from collections.abc import Mapping
from typing import Any

from app.engines.base import Base
from app.engines.documents import dotted, lookup, parts, short
from app.engines.draft import Draft
from app.engines.minimind.keys import KEYS
from app.engines.minimind.schedule import learning_rate
from app.engines.ways import given

Json = Any

_KEPT = (
    "/stage", "/model/", "/tokenizer/", "/data/seed", "/training/seed", "/training/batch_size",
    "/training/accumulation_steps", "/training/max_seq_len", "/training/dtype", "/training/weight_decay",
    "/training/betas", "/training/eps",
)  # fmt: skip
"""What the checkpoint's tensors, optimizer, summed gradients and place in the data belong to."""

_DECISIVE = ("/data/train", "/data/validation_fraction", "/training/grad_clip")
"""What every further step follows, beside the learning rate."""

_SCHEDULE = (
    "/training/learning_rate", "/training/min_lr_ratio", "/training/warmup_steps", "/training/max_steps",
    "/training/epochs",
)  # fmt: skip

_HINT = "Remove it to go on as it was, or choose start.mode init or finetune for a changed training."


def check_resumed(draft: Draft, base: Base) -> None:
    """Refuse what the checkpoint cannot be resumed with, and say what makes another run of it."""
    config = base.facts.config or {}
    for at in _changed(draft, config):
        path, value, had = tuple(parts(at)), draft.get(*parts(at)), _had(config, at)
        if at.startswith(_KEPT):
            message = (
                f"is {short(value)}, but {base.name} was trained with {short(had)}: a resumed training goes on as it is"
            )
            draft.refuse("contradicts-base", path, message, _HINT)
        elif at.startswith(_DECISIVE):
            message = f"is {short(value)}, {base.name} had {short(had)}: not the same run any more"
            draft.warn("another-run", path, message)
    _check_length(draft, base)
    _warn_of_schedule(draft, base, config)


def _changed(draft: Draft, config: Mapping[str, Json]) -> list[str]:
    """Return the places of submitted values that are not the base's."""
    submitted = [at for at in draft.candidates if draft.source(*parts(at)) is not None]
    return [at for at in submitted if draft.get(*parts(at)) != _had(config, at)]


def _had(config: Mapping[str, Json], at: str) -> Json:
    """Return a value of the base's config, or the default of a key that is newer than the base."""
    return lookup(config, at) if given(config, at) else KEYS[at].default


def _check_length(draft: Draft, base: Base) -> None:
    """Refuse a training that would be over before its first step."""
    steps, step = draft.get("training", "max_steps"), base.facts.step
    if steps is not None and step is not None and steps <= step:
        message = f"is {steps}, and {base.name} has done {step} steps already: nothing would be left to do"
        hint = f"Write more than {step}; it counts from the very beginning."
        draft.refuse("out-of-range", ("training", "max_steps"), message, hint)


def _warn_of_schedule(draft: Draft, base: Base, config: Mapping[str, Json]) -> None:
    changed = [at for at in _SCHEDULE if draft.get(*parts(at)) != _had(config, at)]
    if not changed:
        return
    at = changed[0]
    values = f"{dotted(at)} is {short(draft.get(*parts(at)))} and was {short(_had(config, at))}"
    message = f"is followed anew, for {values}{_rates(draft.get('training'), config['training'], base)}"
    draft.warn("schedule-changed", ("training", "learning_rate"), message, "Not the same run any more.")


def _rates(now: Mapping[str, Json], before: Mapping[str, Json], base: Base) -> str:
    """Return in words how the learning rate jumps; nothing where only the trainer knows how long a training is."""
    planned, steps, step = before["max_steps"], now["max_steps"], base.facts.step
    if planned is None or steps is None or step is None:
        return ""
    was, becomes = learning_rate(before, step, planned), learning_rate(now, step, steps)
    return f": at step {step}, where {base.name} stopped, it was {was:.3g} and becomes {becomes:.3g}"
