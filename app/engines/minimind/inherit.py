"""What a submission inherits from its base: the model and its tokenizer, or, to resume a training, all of its config."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.engines.base import Base
from app.engines.documents import leaves, malformed
from app.engines.minimind.check import is_right
from app.engines.minimind.keys import KEYS, nested
from app.engines.starts import not_resumable, unreadable
from app.wire.problems import Notice, Problem
from app.wire.submission import Start

Json = Any

_OF_THE_TRAINING = "seed"
"""Key of a model section that says how a training began: only a resumed one inherits it."""

_REPLACED = (
    ("/training/max_steps", "/training/epochs"),
    ("/data/validation", "/data/validation_fraction"),
    ("/data/validation_fraction", "/data/validation"),
)
"""Keys of a base that do not apply where a submission has another one, and not the key itself."""


@dataclass
class Inherited:
    """The base's values by place."""

    values: dict[str, Json] = field(default_factory=dict)
    is_lost: bool = False
    """Whether there is a base, but it is not known what can be inherited from it."""
    problems: list[Problem] = field(default_factory=list)
    """With pointers into `Start`."""
    warnings: list[Notice] = field(default_factory=list)


def inherit(start: Start, base: Base | None, explicit: Mapping[str, Json]) -> Inherited:
    """Return what a submission inherits that has these values itself."""
    if start.mode == "scratch":
        return Inherited()
    inherited = Inherited(problems=list(_meaningless(start)))
    if base is None:
        inherited.is_lost = True
    elif start.mode == "resume":
        _take_config(inherited, base, explicit)
    else:
        _take_model(inherited, base)
    return inherited


def _meaningless(start: Start) -> Iterator[Problem]:
    """Yield what of `Start` a MiniMind model has no part for; other modes refuse these keys altogether."""
    if start.mode == "resume":
        return
    if start.branch:
        message = "start.branch is for a base of several tasks, and a MiniMind model has one"
        yield Problem(code="unsupported", message=message, pointer="/branch", hint="Remove it.")
    if start.fitting not in (None, "reuse"):
        message = "start.fitting is for models with a fitting net, which a MiniMind model does not have"
        hint = "Remove it: all weights come from the base, and the optimizer begins anew."
        yield Problem(code="unsupported", message=message, pointer="/fitting", hint=hint)


def _take_config(inherited: Inherited, base: Base, explicit: Mapping[str, Json]) -> None:
    config = base.facts.config
    if config is None or base.facts.step is None:
        inherited.is_lost, inherited.problems = True, [not_resumable(base)]
        return
    found = {} if malformed(config) else {at: value for at, value in leaves(config) if at in KEYS}
    is_whole = all(at in found for at in KEYS if at.startswith("/model/"))
    if not is_whole or not all(is_right(KEYS[at], value) for at, value in found.items()):
        inherited.is_lost, inherited.problems = True, [unreadable(base)]
        return
    inherited.values = {at: value for at, value in found.items() if not _is_excluded(at, explicit)}


def _is_excluded(at: str, explicit: Mapping[str, Json]) -> bool:
    """Return whether a submission has what takes the place of a base's value."""
    return any(at == one and one not in explicit and explicit.get(other) for one, other in _REPLACED)


def _take_model(inherited: Inherited, base: Base) -> None:
    model = dict(base.facts.branches[0].model) if base.facts.branches else {}
    tokenizer = model.pop("tokenizer", None)
    model.pop(_OF_THE_TRAINING, None)
    values = {f"/model/{key}": value for key, value in model.items()}
    wanted = {at for at in KEYS if at.startswith("/model/") and not at.endswith(f"/{_OF_THE_TRAINING}")}
    known = {at: value for at, value in values.items() if at in wanted}
    if malformed(model) or known.keys() != wanted or not all(is_right(KEYS[at], known[at]) for at in known):
        inherited.is_lost = True
        inherited.problems.append(unreadable(base))
        return
    for at in sorted(values.keys() - wanted):
        message = f"{base.name} has {at.rpartition('/')[2]} in its model section, which no MiniMind model has"
        inherited.warnings.append(Notice(code="not-inherited", message=message))
    inherited.values = known
    if isinstance(tokenizer, Mapping):
        inherited.values |= {"/tokenizer/source": "base", "/tokenizer/digest": tokenizer.get("digest")}


def document(inherited: Inherited) -> dict[str, Json]:
    """Return the inherited values as a config."""
    return nested(inherited.values)
