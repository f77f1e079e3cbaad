"""Types and ranges of what was submitted: every mistake with its place, and the document without it."""

import math
from collections.abc import Mapping
from typing import Any

from app.engines.documents import dotted, pointer, short
from app.engines.draft import Draft, Path
from app.engines.minimind.keys import KEYS, Key, is_section, members
from app.engines.minimind.migrate import ARGUMENTS
from app.engines.starts import near

Json = Any

_GENEROUS = 1000
"""A larger upper bound is news only to those who exceed it."""

_CALLED = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "text": "a text",
    "numbers": "a list of numbers",
    "datasets": "the name of a dataset, or a list of them",
}


def check(draft: Draft, document: Mapping[str, Json]) -> dict[str, Json]:
    """Return by place what is right in a document in today's spelling; report the rest in `draft`."""
    values: dict[str, Json] = {}
    _section(draft, document, (), values)
    return values


def _section(draft: Draft, section: Mapping[str, Json], path: Path, values: dict[str, Json]) -> None:
    for name, value in section.items():
        at = pointer(*path, name)
        if name.startswith("_") or at == "/$schema":
            continue
        if is_section(at):
            if isinstance(value, dict):
                _section(draft, value, (*path, name), values)
            else:
                draft.refuse("wrong-type", (*path, name), f"must be an object, but is {short(value)}", "Write { … }.")
        elif at not in KEYS:
            _refuse_unknown(draft, (*path, name))
        elif _is_right(draft, (*path, name), KEYS[at], value):
            values[at] = value


def _refuse_unknown(draft: Draft, path: Path) -> None:
    *section, name = path
    elsewhere: dict[Json, str] = {at.rpartition("/")[2]: dotted(at) for at in reversed(list(KEYS))}
    known = [*members(pointer(*section)), *(() if section else ARGUMENTS)]
    meant = f"Did you mean {elsewhere[name]}?" if name in elsewhere else near(str(name), known).strip()
    hint = meant or "Remove it; keys that start with an underscore are comments."
    draft.refuse("unknown-key", path, "is no key of a MiniMind config", hint)


def _is_right(draft: Draft, path: Path, key: Key, value: Json) -> bool:
    if value is None and key.nullable:
        return True
    if not _fits(key, value):
        draft.refuse("wrong-type", path, f"must be {_called(key)}, but is {short(value)}", _remedy(key, value))
        return False
    if key.choices and value not in key.choices:
        hint = near(value, key.choices) or f"One of {', '.join(key.choices)}."
        draft.refuse("invalid-choice", path, f"may not be {short(value)}", hint.strip())
        return False
    for number in _numbers(value):
        if not inside(key, number):
            message = f"must be {_bounds(key, number)}, but is {short(value)}"
            default = f"MiniMind's default is {short(key.default)}." if key.default is not None else None
            draft.refuse("out-of-range", path, message, default or "Choose a number in this range.")
            return False
    return True


def is_right(key: Key, value: Json) -> bool:
    """Return whether a value has the type of a key, is one of its choices and inside its range."""
    if value is None:
        return key.nullable
    is_known = not key.choices or value in key.choices
    return _fits(key, value) and is_known and all(inside(key, number) for number in _numbers(value))


def _fits(key: Key, value: Json) -> bool:
    if key.kind == "numbers":
        return isinstance(value, list) and all(map(_is_number, value)) and len(value) == key.length
    if key.kind == "datasets":
        return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))
    if key.kind == "number":
        return _is_number(value)
    return type(value) is {"integer": int, "boolean": bool, "text": str}[key.kind]


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(value: Json) -> list[float]:
    return [item for item in (value if isinstance(value, list) else [value]) if _is_number(item)]


def _called(key: Key) -> str:
    return f"a list of {key.length} numbers" if key.length else _CALLED[key.kind]


def _remedy(key: Key, value: Json) -> str:
    if key.kind == "integer" and isinstance(value, float) and value.is_integer():
        return f"Write {int(value)} without a decimal point."
    if key.kind == "boolean" and value in (0, 1):
        return f"Write {'true' if value else 'false'}."
    if key.kind in ("integer", "number") and isinstance(value, str) and _is_numeric(value):
        return f"Write {value} without quotes."
    return f"Write {_called(key)}."


def _is_numeric(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def inside(key: Key, number: float) -> bool:
    """Return whether a number is in a key's range."""
    is_high_enough = (key.low is None or number >= key.low) and (key.above is None or number > key.above)
    return is_high_enough and (key.high is None or number <= key.high) and (key.below is None or number < key.below)


def _bounds(key: Key, number: float) -> str:
    low = f"greater than {key.above:g}" if key.above is not None else f"at least {key.low:g}"
    if key.below is not None:
        return f"{low} and less than {key.below:g}"
    if key.high is None:
        return low
    if key.high > _GENEROUS:
        return f"at most {key.high:.12g}" if number > key.high else low
    return f"{low} and at most {key.high:g}"
