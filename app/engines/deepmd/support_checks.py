"""Checks an input against what is supported (`supported.py`), and sets what Cairn decides itself."""

from typing import Any

from app.engines.deepmd import supported
from app.engines.deepmd.document import short
from app.engines.deepmd.draft import Draft, Path

Json = Any


def check_support(draft: Draft) -> None:
    """Refuse what would train another model than the one asked for; mark what has no effect."""
    _check_choices(draft)
    for kind, path in draft.sections():
        section = draft.get(*path)
        if isinstance(section, dict):
            _refuse_keys(draft, kind, path, section)
            _check_lists(draft, kind, path, section)
            _set_service_keys(draft, kind, path, section)
            _mark_idle(draft, kind, path, section)
    if "nvnmd" in draft.submitted:
        draft.refuse("unsupported", ("nvnmd",), "is for the TensorFlow backend", "Remove it.")


def _check_choices(draft: Draft) -> None:
    for kind, path in [*draft.sections(), *_hybrids(draft)]:
        allowed = supported.CHOICES.get((kind, "type"))
        value = draft.get(*path, "type")
        if allowed is not None and isinstance(value, str) and value not in allowed:
            reason = supported.REASONS.get(value, f"only energy models are trained, and {value} is none")
            draft.refuse(
                "unsupported", (*path, "type"), f"{short(value)} is not supported: {reason}",
                f"Supported: {', '.join(sorted(allowed))}.",
            )  # fmt: skip


def _hybrids(draft: Draft) -> list[tuple[str, Path]]:
    return [("descriptor", (*draft.model(task), "descriptor")) for task in draft.tasks()]


def _refuse_keys(draft: Draft, kind: str, path: Path, section: dict[str, Json]) -> None:
    for rule in supported.REFUSED:
        if rule.section == kind and rule.key in section and not _is_inert(rule.key, section[rule.key]):
            value = section[rule.key]
            shown = "" if isinstance(value, dict) else f"= {short(value)} "
            draft.refuse("unsupported", (*path, rule.key), f"{shown}is refused: {rule.reason}", rule.hint)


_INERT: dict[str, tuple[Any, ...]] = {
    "bridging_method": ("None", "none", ""),
    "acc_freq": (1,),
    "layer_name": (),
    "lmax": (),
    "mixed_precision": (),
}


def _is_inert(key: str, value: Json) -> bool:
    """Return whether a value means "not used"."""
    return value is None or value is False or value in _INERT.get(key, (0, 0.0))


def _check_lists(draft: Draft, kind: str, path: Path, section: dict[str, Json]) -> None:
    for (section_kind, key), allowed in supported.LISTED.items():
        value = section.get(key)
        if section_kind == kind and isinstance(value, str) and value not in allowed:
            hint = f"One of {', '.join(sorted(allowed))}."
            draft.refuse("invalid-choice", (*path, key), f"cannot be {short(value)}", hint)


def _set_service_keys(draft: Draft, kind: str, path: Path, section: dict[str, Json]) -> None:
    for (section_kind, key), (value, reason) in supported.SERVICE.items():
        if section_kind != kind or key not in section:
            continue
        was_other = section[key] != value
        is_given = draft.source(*path, key) is not None
        draft.put((*path, key), value, "service", ignored=reason if is_given and was_other else None)
        if is_given and was_other:
            draft.warn("ignored", (*path, key), f"is not used: {reason}")
    for (section_kind, key), reason in supported.REMOVED.items():
        if section_kind == kind and key in section:
            draft.warn("ignored", (*path, key), f"is not used: {reason}", "Remove it.")
            del section[key]


def _mark_idle(draft: Draft, kind: str, path: Path, section: dict[str, Json]) -> None:
    for rule in supported.IDLE:
        if rule.section != kind or rule.key not in section or draft.source(*path, rule.key) is None:
            continue
        draft.ignore((*path, rule.key), rule.reason)
        if section[rule.key] != draft.default(*path, rule.key):
            draft.warn("ignored", (*path, rule.key), f"has no effect: {rule.reason}")
