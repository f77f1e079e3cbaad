"""Checks of a training that is resumed: what must be as it was, and what then is not the same run any more."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.engines.base import Base
from app.engines.deepmd.document import short
from app.engines.deepmd.draft import Draft, Path, place
from app.engines.deepmd.layering import Layered
from app.engines.documents import leaves, pointer
from app.wire.resolution import LosingCandidate

Json = Any

_KEPT = ("/model/", "/optimizer/", "/training/enable_ema", "/training/ema_decay", "/training/seed")
"""What the checkpoint's tensors, optimizer and generators belong to. Stock DeePMD-kit takes the checkpoint's and says
nothing, or trains another function with its weights."""

_DECISIVE = ("/loss/", "/loss_dict/", "/training/gradient_max_norm", "/training/model_prob/")
"""What every further step follows, beside data and learning rate."""

_SAMPLES = 7
"""At how many steps two schedules are compared."""

_HINT = "Remove it to go on as it was, or choose start.mode init or finetune for a changed model."


def check_kept(draft: Draft, layers: Layered, shared: tuple[Mapping[str, Json], Mapping[str, Json]]) -> None:
    """Refuse explicit values of model, optimizer and seeds that are not the checkpoint's.

    `shared` is what tasks share in the submission and in the checkpoint.
    """
    assert draft.base is not None
    new = _refuse_new_tasks(draft, layers, draft.base)
    for at, candidates in draft.candidates.items():
        if candidates[0].origin == "explicit" and is_kept(at) and not layers.is_ended(at) and not at.startswith(new):
            had = _had(candidates)
            if had is None or had.value != candidates[0].value:
                as_base = f"but {draft.base.name} was trained with {short(had.value) if had else 'none'}"
                message = f"is {short(candidates[0].value)}, {as_base}: a resumed training goes on as it is"
                draft.refuse("contradicts-base", place(draft.config, at), message, _HINT)
    for at, why in layers.ended.items():
        if is_kept(at) and not at.endswith("/type"):
            draft.refuse(
                "contradicts-base", place(draft.config, at), f"{why}: a resumed training goes on as it is", _HINT
            )
    mine, other = shared
    for at in sorted(at for at in {*mine, *other} if mine.get(at) != other.get(at) and not at.startswith(new)):
        message = f"is not shared as in {draft.base.name}: a resumed training goes on as it is"
        draft.refuse("contradicts-base", place(draft.config, at), message, _HINT)


def _refuse_new_tasks(draft: Draft, layers: Layered, base: Base) -> tuple[str, ...]:
    """Refuse tasks that the checkpoint does not have; return the pointers of their models."""
    known = _get(layers.base, ("model", "model_dict")) or {}
    new = [task for task in draft.tasks() if task and task not in known]
    for task in new:
        message = f"is no task of {base.name}, which has {', '.join(known)}: a resumed training goes on as it is"
        draft.refuse("contradicts-base", draft.model(task), message, _HINT)
    return tuple(pointer(*draft.model(task)) + "/" for task in new)


def _had(candidates: list[LosingCandidate]) -> LosingCandidate | None:
    """Return the base's candidate, or the default where a newer DeePMD-kit has a key that the base did not know."""
    by_origin = {candidate.origin: candidate for candidate in reversed(candidates)}
    return by_origin.get("base") or by_origin.get("default")


def is_kept(at: str) -> bool:
    """Return whether a value belongs to what a resumed training keeps: model, optimizer, seeds, moving average."""
    return at.startswith(_KEPT) and not at.startswith("/model/shared_dict/")


def check_length_beyond(draft: Draft, steps: int, base: Base) -> None:
    """Refuse a training that would be over before its first step."""
    if base.facts.step is not None and steps <= base.facts.step:
        message = (
            f"makes {steps} steps, and {base.name} has done {base.facts.step} already: nothing would be left to do"
        )
        hint = f"Write more than {base.facts.step} for training.numb_steps; it counts from the very beginning."
        path = ("training", "numb_steps")
        if draft.source(*path):
            draft.refuse("out-of-range", path, message, hint)
        else:
            draft.refuse("out-of-range", ("training",), f"is inherited and {message}", hint)


def warn_of_another_run(draft: Draft, steps: int, base: Base, config: Mapping[str, Json]) -> None:
    """Say what makes the rest of the training differ from what the base's own training would have been.

    `config` is what the base was trained with, in today's spelling.
    """
    for path in _data_sections(draft):
        if _differ(draft.get(*path), _get(config, path)):
            message = f"is not what {base.name} was trained on: not the same run any more"
            draft.warn("another-run", path, message, "Its weights and its optimizer go on with other data.")
    for at, candidates in draft.candidates.items():
        if at.startswith(_DECISIVE) and candidates[0].origin == "explicit":
            had = _had(candidates)
            if had is not None and had.value != candidates[0].value:
                message = (
                    f"is {short(candidates[0].value)}, {base.name} had {short(had.value)}: not the same run any more"
                )
                draft.warn("another-run", place(draft.config, at), message)
    _warn_of_schedule(draft, steps, base, config)


def _data_sections(draft: Draft) -> list[Path]:
    return [(*draft.data_section(task), "training_data") for task in draft.tasks()]


def _differ(one: Json, other: Json) -> bool:
    """Return whether two data sections yield other batches."""
    return dict(leaves(one)) != dict(leaves(other))


def _get(document: Json, path: Path) -> Json:
    try:
        for part in path:
            document = document[part]
    except (LookupError, TypeError):
        return None
    return document


def _warn_of_schedule(draft: Draft, steps: int, base: Base, config: Mapping[str, Json]) -> None:
    before, now = config.get("learning_rate"), draft.config["learning_rate"]
    planned, step = _get(config, ("training", "numb_steps")), base.facts.step
    if (before == now and planned == steps) or not isinstance(before, dict) or not isinstance(planned, int):
        return
    shorter = max(1, min(steps, planned))
    samples = [step or 0, *range(0, shorter, shorter // _SAMPLES + 1)]
    was, becomes = _rates(before, planned, samples), _rates(now, steps, samples)
    if planned == steps and was == becomes:
        return
    change = f"training.numb_steps is {steps} and was {planned}" if planned != steps else "the schedule is another one"
    message = f"is followed anew, for {change}"
    if was and becomes:
        message += f": at step {step}, where {base.name} stopped, the learning rate was {was[0]:.3g} and becomes {becomes[0]:.3g}"
    draft.warn("schedule-changed", ("learning_rate",), message, "Not the same run any more.")
    if planned != steps and draft.source("training", "numb_steps"):
        draft.note(("training", "numb_steps"), f"the learning rate is re-derived for {steps} steps; base had {planned}")


def _rates(section: Mapping[str, Json], steps: int, samples: Sequence[int]) -> list[float] | None:
    """Return DeePMD-kit's learning rates at some steps of a training of so many; None: the schedule makes no sense."""
    from deepmd.dpmodel.utils.learning_rate import BaseLR  # half a second, and only this needs it

    try:
        with np.errstate(all="ignore"):
            schedule = BaseLR(**section, num_steps=steps)
            return [float(schedule.value(step)) for step in samples]
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return None
