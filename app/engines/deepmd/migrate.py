"""Old spellings of DeePMD-kit inputs (1.x, up to 3.1) become today's, by DeePMD-kit's own code."""

import math
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from deepmd.utils.compat import update_deepmd_input

from app.engines.deepmd.document import dotted, short
from app.engines.documents import parts, pointer
from app.wire.problems import Notice, Problem

Json = Any

SECTIONS = ("model", "learning_rate", "optimizer", "loss", "loss_dict", "training", "validating", "nvnmd")

_WARMUP = ("warmup_steps", "warmup_ratio", "warmup_start_factor")
_V31_OPTIMIZER = {
    key: "type" if key == "opt_type" else key
    for key in (
        "opt_type", "kf_blocksize", "kf_start_pref_e", "kf_limit_pref_e", "kf_start_pref_f", "kf_limit_pref_f",
        "weight_decay", "momentum", "muon_momentum", "adam_beta1", "adam_beta2", "lr_adjust", "lr_adjust_coeff",
        "muon_2d_only", "min_2d_dim",
    )
}  # fmt: skip
_FAILURES = (
    LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError, AssertionError,
)  # fmt: skip
"""What DeePMD-kit's conversion raises on documents that it does not expect."""


@dataclass
class Migrated:
    """A document in today's spelling."""

    value: dict[str, Json]
    moves: dict[str, str] = field(default_factory=dict)
    """Old place of every value that moved, by its new one."""
    computed: dict[str, str] = field(default_factory=dict)
    """Of what a value was computed, in words, by its new place."""
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)
    broken: frozenset[str] = frozenset()
    """Sections that are missing or no objects: reported here, not to be checked again."""


def migrate(config: Mapping[str, Json], *, inherited: Collection[str] = ()) -> Migrated:
    """Return a submitted config in today's spelling. Sections named in `inherited` need not be there."""
    document = deepcopy(dict(config))
    if "model" not in document and "use_smooth" in document:
        return _too_old()
    for name in inherited:
        document.setdefault(name, {})
    problems = _wrong_sections(document)
    if problems:
        broken = frozenset(parts(problem.pointer or "")[0] for problem in problems if problem.pointer)
        absent = frozenset(name for name in ("model", "training", "learning_rate") if name not in document)
        return Migrated(document, problems=problems, broken=broken | absent)
    problems = _conflicts(document)
    if problems:
        return Migrated(document, problems=problems, broken=frozenset({"training"}))
    return _converted(document)


def _too_old() -> Migrated:
    message = "this is an input of DeePMD-kit 0.x, which does not say what elements there are"
    hint = "Write it in today's form, with model.type_map; examples/copper/input.json shows one."
    problem = Problem(code="not-convertible", message=message, pointer="/use_smooth", hint=hint)
    return Migrated({}, problems=[problem], broken=frozenset(SECTIONS))


def _wrong_sections(document: dict[str, Json]) -> list[Problem]:
    problems = [
        Problem(
            code="wrong-type",
            message=f"{name} must be an object, but is {short(document[name])}",
            pointer=pointer(name),
            hint="Write { … }.",
        )
        for name in SECTIONS
        if name in document and not isinstance(document[name], dict)
    ]
    for name in ("model", "training", "learning_rate"):
        if name not in document:
            hint = f"Add {name!r}; examples/copper/input.json shows a complete input."
            problems.append(Problem(code="missing-key", message=f"{name} is missing", pointer="", hint=hint))
    return problems


def _conflicts(document: dict[str, Json]) -> list[Problem]:
    """Return values that are given in an old and in the new place: DeePMD-kit would silently take one of them."""
    training, optimizer = document["training"], document.get("optimizer", {})
    pairs = [(key, f"/optimizer/{new}") for key, new in _V31_OPTIMIZER.items() if key in training and new in optimizer]
    pairs += [(key, f"/learning_rate/{key}") for key in _WARMUP if key in training and key in document["learning_rate"]]
    if "systems" in training and "training_data" in training:
        pairs.append(("systems", "/training/training_data"))
    return [
        Problem(
            code="given-twice",
            message=f"training.{key} is the old place of {dotted(new)}, and both are given",
            pointer=pointer("training", key),
            hint=f"Remove training.{key}.",
        )
        for key, new in pairs
    ]


def _converted(document: dict[str, Json]) -> Migrated:
    before = deepcopy(document)
    removed = _removed(document)
    try:
        with np.errstate(all="ignore"):
            after = update_deepmd_input(document, warning=False)
        moves = _moves(before, after)
        if "/learning_rate/stop_lr" in moves:
            after["learning_rate"]["stop_lr"] = _stop_lr(after["learning_rate"]["stop_lr"])
    except _FAILURES as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        message = f"this looks like an input of DeePMD-kit 1.x that cannot be converted: {reason}"
        hint = "Complete it, or write it in today's form; examples/copper/input.json shows one."
        problem = Problem(code="not-convertible", message=message, pointer="", hint=hint)
        return Migrated({}, problems=[problem], broken=frozenset(SECTIONS))
    migrated = Migrated(after, moves=moves, warnings=removed + _told(before, moves))
    if "/learning_rate/stop_lr" in moves:
        note = f"the rate after the last step, from decay_rate {before['learning_rate']['decay_rate']}"
        migrated.computed["/learning_rate/stop_lr"] = note
    return migrated


def _stop_lr(computed: Any) -> float:
    """Return what DeePMD-kit computed from decay_rate as a plain number.

    Raises:
        ValueError: the values that it was computed from are no numbers, or make none.
    """
    if not isinstance(computed, int | float) or not math.isfinite(computed):
        raise ValueError("start_lr, decay_rate, decay_steps and stop_batch make no learning rate at the end")
    return float(computed)


def _removed(document: dict[str, Json]) -> list[Notice]:
    """Take out keys that DeePMD-kit dropped long ago and still tolerates, and return a notice for each."""
    training = document["training"]
    holders = [("/training", training, "numb_test"), ("/training", training, "set_prefix")]
    holders += [
        (f"/training/{name}", training.get(name), "set_prefix") for name in ("training_data", "validation_data")
    ]
    notices = []
    for at, holder, key in holders:
        if isinstance(holder, dict) and key in holder:
            del holder[key]
            message = f"{dotted(at + pointer(key))} was removed from DeePMD-kit and takes no effect"
            notices.append(Notice(code="ignored", message=message, pointer=at + pointer(key), hint="Remove it."))
    return notices


def _moves(before: dict[str, Json], after: dict[str, Json]) -> dict[str, str]:
    training = before["training"]
    moves = {
        pointer("optimizer", new): pointer("training", old) for old, new in _V31_OPTIMIZER.items() if old in training
    }
    moves |= {pointer("learning_rate", key): pointer("training", key) for key in _WARMUP if key in training}
    if "systems" in training:
        data = after["training"]["training_data"]
        moves |= {pointer("training", "training_data", key): pointer("training", key) for key in data}
        if "decay_rate" in before["learning_rate"]:
            moves["/learning_rate/stop_lr"] = "/learning_rate/decay_rate"
    return moves


def _told(before: dict[str, Json], moves: dict[str, str]) -> list[Notice]:
    if "systems" in before["training"]:
        message = "this is an input of DeePMD-kit 1.x; it was converted to today's form"
        hint = "The resolved config shows what became of every key."
        return [Notice(code="migrated", message=message, pointer="", hint=hint)]
    return [
        Notice(
            code="migrated",
            message=f"{dotted(old)} is now {dotted(new)}",
            pointer=old,
            hint="Write it in its new place; the value is in force.",
        )
        for new, old in moves.items()
    ]
