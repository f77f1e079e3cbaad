"""DeePMD-kit's schema check, but complete: every mistake of a document with its place, not only the first.

dargs stops at the first mistake. This walks the same argument tree and asks dargs about one value at a time; what is
wrong is left out of the answer, so that the checks that come after it can still say what else is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, get_origin

from dargs import Argument, Variant
from dargs.dargs import ArgumentError, did_you_mean

from app.engines.deepmd.document import Way, dotted, short
from app.engines.deepmd.supported import CHOICES
from app.engines.documents import pointer
from app.wire.problems import Problem

Json = Any

_WRONG = object()
"""Stands for a value that was wrong and has been reported."""


@dataclass
class Checked:
    """A document without what was wrong in it, comments and old spellings."""

    value: dict[str, Json] = field(default_factory=dict)
    moves: dict[str, str] = field(default_factory=dict)
    """Place of every value that was spelled by an alias, by its place now."""
    problems: list[Problem] = field(default_factory=list)
    way: Way = field(default_factory=Way)

    def name(self, at: str) -> str:
        """Return a place as people write it, in the spelling that was submitted."""
        return dotted(self.way.back(at).pointer)

    def add(self, code: str, at: str, message: str, hint: str) -> None:
        """Record a mistake."""
        self.problems.append(Problem(code=code, message=message, pointer=at, hint=hint))


def check(
    tree: Argument,
    document: Mapping[str, Json],
    *,
    way: Way,
    broken: frozenset[str] = frozenset(),
    base: Mapping[str, Json] | None = None,
) -> Checked:
    """Check a document against an argument tree. Sections named in `broken` are known to be wrong and left out.

    `way` leads from the document back to what was submitted: messages name things as they were written there. What the
    document leaves out and `base` has (a checked document itself) is not missing: the two are walked side by side, and
    where the document chooses another variant than the base, the base ends.
    """
    checked = Checked(way=way)
    fields = {name: argument for name, argument in tree.sub_fields.items() if name not in broken}
    rest = {key: value for key, value in document.items() if key not in broken}
    checked.value = _members(fields, rest, "", checked, base)
    return checked


def _value(argument: Argument, value: Json, at: str, checked: Checked, base: Json) -> Json:
    if not (argument.sub_fields or argument.sub_variants):
        return _leaf(argument, value, at, checked)
    if value is None and NoneType in argument.dtype:
        return None
    if argument.repeat and isinstance(value, list | dict) and type(value) not in _kinds(argument):
        _report_type(argument, value, at, checked)
        return _WRONG
    if argument.repeat and isinstance(value, list):
        bases = base if isinstance(base, list) and len(base) == len(value) else [None] * len(value)
        items = [
            _section(argument, item, at + pointer(index), checked, bases[index]) for index, item in enumerate(value)
        ]
        return _WRONG if any(item is _WRONG for item in items) else items
    if argument.repeat and isinstance(value, dict):
        named = {key: item for key, item in value.items() if not key.startswith("_")}
        sections = {
            key: _section(argument, item, at + pointer(key), checked, _member(base, key)) for key, item in named.items()
        }
        return {key: item for key, item in sections.items() if item is not _WRONG}
    return _section(argument, value, at, checked, base)


def _member(base: Json, key: str) -> Json:
    return base.get(key) if isinstance(base, Mapping) else None


def _section(argument: Argument, value: Json, at: str, checked: Checked, base: Json) -> Json:
    if not isinstance(value, dict):
        checked.add("wrong-type", at, f"{checked.name(at)} must be an object, but is {short(value)}", "Write { … }.")
        return _WRONG
    tags: dict[str, str] = {}
    base = base if isinstance(base, Mapping) else None
    fields = _fields(argument, value, at, tags, checked, base)
    if fields is None:
        known = {name: member for name, member in argument.sub_fields.items() if name in value}
        _members(known, {name: value[name] for name in known}, at, checked, base)
        return _WRONG
    return _members(fields, value, at, checked, base if _is_same_kind(tags, base) else None) | tags


def _is_same_kind(tags: Mapping[str, str], base: Mapping[str, Json] | None) -> bool:
    """Return whether every choice that was written down is also the base's."""
    return all(base is not None and base.get(flag, choice) == choice for flag, choice in tags.items())


def _fields(
    argument: Argument,
    value: dict[str, Json],
    at: str,
    tags: dict[str, str],
    checked: Checked,
    base: Mapping[str, Json] | None,
) -> dict[str, Argument] | None:
    """Return the members that an object may have, given the variants it chose; None when a choice is wrong.

    `tags` receives the proper name of every choice that was written down.
    """
    fields = dict(argument.sub_fields)
    for flag, variant in argument.sub_variants.items():
        choice = _choice(argument, variant, value, at, checked, base)
        inner = _fields(choice, value, at, tags, checked, base) if choice is not None else None
        if choice is None or inner is None:
            return None
        fields |= {flag: variant.dummy_argument(), **inner}
        if flag in value:
            tags[flag] = choice.name
    return fields


def _choice(
    argument: Argument,
    variant: Variant,
    value: dict[str, Json],
    at: str,
    checked: Checked,
    base: Mapping[str, Json] | None,
) -> Argument | None:
    flag = variant.flag_name
    inherited = (base or {}).get(flag)
    choices = [*variant.choice_dict, *variant.choice_alias]
    listed = f"One of {', '.join(sorted(CHOICES.get((argument.name, flag), variant.choice_dict)))}."
    if flag not in value and inherited is None and not variant.optional:
        message = f"{checked.name(at + pointer(flag))} is missing: it says which kind this is"
        checked.add("missing-key", at, message, listed)
        return None
    tag = value.get(flag, inherited or variant.default_tag)
    if not isinstance(tag, str) or tag not in choices:
        near = did_you_mean(tag, choices) if isinstance(tag, str) else ""
        hint = near or listed
        checked.add(
            "invalid-choice", at + pointer(flag), f"{checked.name(at + pointer(flag))}: there is no {short(tag)}", hint
        )
        return None
    chosen: Argument = variant.choice_dict[variant.choice_alias.get(tag, tag)]
    return chosen


def _members(
    fields: dict[str, Argument], value: Mapping[str, Json], at: str, checked: Checked, base: Mapping[str, Json] | None
) -> dict[str, Json]:
    known = {alias: name for name, argument in fields.items() for alias in (name, *argument.alias)}
    result: dict[str, Json] = {}
    spelled: dict[str, str] = {}
    for key, member in value.items():
        if key.startswith("_") or key == "$schema":
            continue
        name = known.get(key)
        if name is None:
            _unknown(key, at, fields, checked)
        elif name in spelled:
            message = f"{checked.name(at + pointer(key))} and {spelled[name]} are two spellings of the same key"
            checked.add("given-twice", at + pointer(key), message, f"Keep one, best {name}.")
        else:
            spelled[name] = key
            if key != name:
                checked.moves[at + pointer(name)] = at + pointer(key)
            kept = _value(fields[name], member, at + pointer(key), checked, _member(base, name))
            if kept is not _WRONG:
                result[name] = kept
    has = {*spelled, *(base or ())}
    for name in [name for name, argument in fields.items() if not argument.optional and name not in has]:
        message = f"{checked.name(at + pointer(name))} is missing"
        checked.add("missing-key", at, message, f"Add {name!r} here.")
    return result


def _unknown(key: str, at: str, fields: dict[str, Argument], checked: Checked) -> None:
    near = did_you_mean(key, fields) or did_you_mean(key, [alias for field in fields.values() for alias in field.alias])
    hint = near or "Remove it; keys that start with an underscore are comments."
    checked.add(
        "unknown-key", at + pointer(key), f"{checked.name(at + pointer(key))}: DeePMD-kit knows no such key", hint
    )


def _leaf(argument: Argument, value: Json, at: str, checked: Checked) -> Json:
    if isinstance(value, bool) and bool not in argument.dtype and dict not in argument.dtype:
        checked.add(
            "wrong-type", at, f"{checked.name(at)} must be {_types(argument)}, but is {short(value)}", "Write a number."
        )
        return _WRONG
    if isinstance(value, dict) and "$ref" in value:
        _unknown("$ref", at, {}, checked)  # dargs' way to other files
        return _WRONG
    try:
        argument.check_value(value, strict=True)
    except ArgumentError as error:
        _explain(argument, value, at, error, checked)
        return _WRONG
    return value


def _explain(argument: Argument, value: Json, at: str, error: ArgumentError, checked: Checked) -> None:
    if "extra checking" in str(error):
        hint = argument.extra_check_errmsg or "See DeePMD-kit's documentation of this key."
        checked.add(
            "out-of-range", at, f"{checked.name(at)} may not be {short(value)}", hint[:1].upper() + hint[1:] + "."
        )
        return
    _report_type(argument, value, at, checked)


def _report_type(argument: Argument, value: Json, at: str, checked: Checked) -> None:
    hint = f"Write {_types(argument)}."
    if isinstance(value, float) and value.is_integer() and int in argument.dtype:
        hint = f"Write {int(value)} without a decimal point."
    checked.add("wrong-type", at, f"{checked.name(at)} must be {_types(argument)}, but is {short(value)}", hint)


_NAMES = {
    "str": "text",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "NoneType": "null",
    "dict": "an object",
    "list": "a list",
}


def _types(argument: Argument) -> str:
    names = [_NAMES.get(str(kind), str(kind)) for kind in map(_type_name, argument.dtype)]
    return " or ".join(dict.fromkeys(sorted(names)))


def _kinds(argument: Argument) -> set[Any]:
    return {get_origin(kind) or kind for kind in argument.dtype}


def _type_name(kind: Any) -> str:
    text = str(kind)
    if text.startswith("list["):
        return f"a list of {text[5:-1].replace('|', 'or')}"
    return getattr(kind, "__name__", text)
