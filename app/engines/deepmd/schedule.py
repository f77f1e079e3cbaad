"""Checks of learning rate and loss, and what DeePMD-kit silently makes of the schedule."""

from typing import Any

from app.engines.deepmd.draft import Draft

Json = Any

_RATE = ("learning_rate",)
_SMALLEST_STOP = 1e-10
"""DeePMD-kit computes the decay rate as if stop_lr were at least this."""

TERMS = ("e", "f", "v", "ae", "pf")
"""Terms of the energy loss, as the prefactors' names end."""


def check_schedule(draft: Draft) -> None:
    """Refuse learning rates that contradict each other."""
    for one, other, unused in (("stop_lr", "stop_lr_ratio", None), ("warmup_ratio", "warmup_steps", 0)):
        both = (draft.get(*_RATE, one), draft.get(*_RATE, other))
        if both[0] is not None and both[1] not in (None, unused) and draft.source(*_RATE, one):
            draft.refuse("contradiction", (*_RATE, other), f"and {one} exclude each other", "Keep one of them.")
    start, stop = draft.number(*_RATE, "start_lr"), draft.number(*_RATE, "stop_lr")
    if start is not None and stop is not None and 0 < start < stop:
        draft.refuse(
            "out-of-range", (*_RATE, "stop_lr"), f"({stop:g}) must not exceed start_lr ({start:g})",
            "The learning rate falls from start_lr to stop_lr.",
        )  # fmt: skip
    if draft.get(*_RATE, "type") == "wsd" and stop == 0:
        draft.refuse("out-of-range", (*_RATE, "stop_lr"), "must be greater than 0 for wsd", "1e-8 is usual.")


def settle_schedule(draft: Draft, steps: int) -> None:
    """Show the schedule that DeePMD-kit will follow over `steps` steps, and refuse a warm-up that never ends."""
    if draft.get(*_RATE, "stop_lr") is None and draft.get(*_RATE, "stop_lr_ratio") is None:
        draft.put(
            (*_RATE, "stop_lr"), 5e-8, "default", note="DeePMD-kit's default when stop_lr_ratio is not given either"
        )
    ratio = draft.number(*_RATE, "warmup_ratio")
    warmup = int(ratio * steps) if ratio is not None else int(draft.number(*_RATE, "warmup_steps") or 0)
    if warmup >= steps:
        key = "warmup_steps" if ratio is None else "warmup_ratio"
        message = f"makes {warmup} warm-up steps, but there are only {steps} steps"
        draft.refuse("out-of-range", (*_RATE, key), message, "Warm up for less than the whole training.")
        return
    if draft.get(*_RATE, "type") == "exp" and draft.get(*_RATE, "decay_rate") is None:
        _settle_decay(draft, steps - warmup)


def effective_decay_steps(decay_steps: int, decaying: int) -> int:
    """Return the decay_steps that DeePMD-kit uses over `decaying` steps (deepmd/dpmodel/utils/learning_rate.py)."""
    if decay_steps < decaying:
        return decay_steps
    return 100 if decaying // 10 > 100 else decaying // 100 + 1


def _settle_decay(draft: Draft, decaying: int) -> None:
    path = (*_RATE, "decay_steps")
    asked = int(draft.number(*path) or 0)
    used = effective_decay_steps(asked, decaying)
    if used != asked:
        note = f"replaced decay_steps {asked}, which is not less than the {decaying} steps to decay over"
        if draft.is_inherited(*path):
            note = f"re-derived for {decaying} steps to decay over; base had {asked}"
        is_given = draft.source(*path) is not None
        draft.put(path, used, "derived", source="deepmd-kit", note=note)
        if is_given:
            message = f"({asked}) is not less than the {decaying} steps to decay over; DeePMD-kit uses {used} instead"
            draft.warn("adjusted", path, message, f"Write {used}, or train for more steps.")
    stop = draft.number(*_RATE, "stop_lr")
    if stop is not None and stop < _SMALLEST_STOP:
        message = f"({stop:g}) counts as {_SMALLEST_STOP:g} in the decay rate"
        draft.warn("adjusted", (*_RATE, "stop_lr"), message)


def check_losses(draft: Draft) -> None:
    """Refuse losses that DeePMD-kit would quietly leave out or fail on."""
    for task in draft.tasks():
        path = draft.loss(task)
        if draft.get(*path, "type") != "ener":
            continue
        for term in TERMS:
            start, limit = draft.number(*path, f"start_pref_{term}"), draft.number(*path, f"limit_pref_{term}")
            if start is not None and limit is not None and (start == 0) != (limit == 0):
                zero, other = ("start", "limit") if start == 0 else ("limit", "start")
                place = (*path, f"{zero}_pref_{term}")
                message = (
                    f"is 0 while {other}_pref_{term} is not: DeePMD-kit would leave the whole term out of the loss"
                )
                draft.refuse(
                    "contradiction", place, message, f"Set both to 0, or {zero}_pref_{term} to a small number."
                )
        if not any(is_used(draft, task, term) for term in TERMS):
            draft.refuse("out-of-range", path, "has no term: nothing would be trained", "Set some prefactors.")
        _check_huber(draft, path)


def is_used(draft: Draft, task: str, term: str) -> bool:
    """Return whether a term is part of a task's loss."""
    path = draft.loss(task)
    return bool(draft.number(*path, f"start_pref_{term}")) and bool(draft.number(*path, f"limit_pref_{term}"))


def _check_huber(draft: Draft, path: tuple[str | int, ...]) -> None:
    if draft.get(*path, "f_use_norm") and not (draft.get(*path, "use_huber") or draft.get(*path, "loss_func") == "mae"):
        message = "needs use_huber or loss_func mae"
        draft.refuse("contradiction", (*path, "f_use_norm"), message, "Remove it.")
    if draft.get(*path, "use_huber"):
        for key in ("start_pref_pf", "relative_f"):
            if draft.number(*path, key):
                draft.refuse("contradiction", (*path, key), "cannot be combined with use_huber", "Choose one of them.")
    deltas = draft.get(*path, "huber_delta")
    if isinstance(deltas, list) and len(deltas) != 3:
        message = f"has {len(deltas)} numbers instead of three"
        draft.refuse("wrong-length", (*path, "huber_delta"), message, "For energy, force and virial, in this order.")
