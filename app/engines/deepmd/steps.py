"""How long a training is: steps, or epochs turned into steps, and how often each task is drawn."""

from collections.abc import Mapping
from typing import Any

from app.engines.deepmd.batches import batches_per_epoch, kept
from app.engines.deepmd.draft import Draft, Path
from app.wire.datasets import SystemSummary

Json = Any

MAX_STEPS = 10**12


def check_length(draft: Draft) -> None:
    """Refuse trainings without a length, or with two."""
    is_multi = draft.tasks() != [""]
    epochs = "num_epoch_dict" if is_multi else "numb_epoch"
    training = draft.get("training")
    if not isinstance(training, dict):
        return
    has_steps, has_epochs = training.get("numb_steps") is not None, bool(training.get(epochs))
    if has_steps and has_epochs:
        draft.refuse("contradiction", ("training", epochs), "and numb_steps exclude each other", "Keep one of them.")
    if not has_steps and not has_epochs and not _reported(draft, ("numb_step", epochs)):
        message = "is missing: how long should the training be?"
        draft.refuse("missing-key", ("training", "numb_steps"), message, f"Add numb_steps, or {epochs}.")
    if is_multi and training.get("numb_epoch") is not None:
        hint = "Use numb_steps, or num_epoch_dict with epochs for every task."
        draft.refuse("contradiction", ("training", "numb_epoch"), "is for a single task", hint)
    if is_multi:
        _check_shares(draft, epochs)


def _reported(draft: Draft, names: tuple[str, ...]) -> bool:
    return any(
        name in (problem.pointer or "") for problem in draft.problems for name in (*names, "stop_batch", "epoch")
    )


def _check_shares(draft: Draft, epochs: str) -> None:
    shares = draft.get("training", "model_prob")
    if isinstance(shares, dict) and shares:
        if draft.get("training", epochs):
            draft.refuse("contradiction", ("training", "model_prob"), f"and {epochs} exclude each other", "Keep one.")
        if not any(_is_number(value, 0, is_open=True) for value in shares.values()):
            draft.refuse("out-of-range", ("training", "model_prob"), "gives no task a positive weight", "Such as 1.")
    for key, is_open in (("model_prob", False), (epochs, True)):
        section = draft.get("training", key)
        for name, value in section.items() if isinstance(section, dict) else ():
            if not _is_number(value, 0, is_open=is_open):
                least = "greater than 0" if is_open else "at least 0"
                draft.refuse("out-of-range", ("training", key, name), f"must be a number {least}", "Such as 1.")


def _is_number(value: Json, low: float, *, is_open: bool) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and (value > low or (value == low and not is_open))


def settle_length(draft: Draft, found: Mapping[Path, list[SystemSummary]], ranks: int) -> int:
    """Return the number of steps, with epochs turned into steps and the tasks' weights filled in.

    A step takes a batch for each of the `ranks`, so that an epoch has as many times fewer steps.
    """
    if draft.tasks() != [""]:
        return _settle_tasks(draft, found, ranks)
    epochs = draft.number("training", "numb_epoch")
    if epochs is None:
        return int(draft.get("training", "numb_steps"))
    path = ("training", "training_data")
    batches = batches_per_epoch(draft.get(*path), found[path])
    steps = _ceil(epochs * batches / ranks)
    note = f"{epochs:g} epochs of {batches} batches (training.numb_epoch){_at_once(ranks)}"
    _replace(draft, "numb_epoch")
    draft.put(("training", "numb_steps"), steps, "derived", note=note, source=draft.source("training", "numb_epoch"))
    return steps


def _at_once(ranks: int) -> str:
    return f", {ranks} a step" if ranks > 1 else ""


def _settle_tasks(draft: Draft, found: Mapping[Path, list[SystemSummary]], ranks: int) -> int:
    paths = {task: (*draft.data_section(task), "training_data") for task in draft.tasks()}
    epochs = draft.get("training", "num_epoch_dict") or {}
    if epochs:
        batches = {task: batches_per_epoch(draft.get(*path), found[path]) for task, path in paths.items()}
        targets = {task: float(epochs[task]) * batches[task] for task in paths}
        steps = _ceil(sum(targets.values()) / ranks)
        batches_of = ", ".join(f"{task} {targets[task]:g} batches" for task in targets)
        note = f"from training.num_epoch_dict: {batches_of}{_at_once(ranks)}"
        draft.put(("training", "num_epoch_dict"), {}, "derived", note="turned into numb_steps and model_prob")
        draft.put(("training", "numb_steps"), steps, "derived", note=note)
        _put_shares(draft, {task: value / sum(targets.values()) for task, value in targets.items()}, note)
        return steps
    if not draft.get("training", "model_prob"):
        counts = {task: len(kept(draft.get(*path, "batch_size"), found[path])) for task, path in paths.items()}
        _put_shares(draft, {task: float(count) for task, count in counts.items()}, "number of systems of each task")
    return int(draft.get("training", "numb_steps"))


def _put_shares(draft: Draft, shares: dict[str, float], note: str) -> None:
    draft.get("training")["model_prob"] = {}
    for task, share in shares.items():
        draft.put(("training", "model_prob", task), share, "derived", note=note)


def _replace(draft: Draft, key: str) -> None:
    """Take a key out that another one now stands for."""
    draft.get("training").pop(key)


def _ceil(value: float) -> int:
    return -int(-value // 1)
