"""Reading JSON files as people write them: what is wrong is said with its line, and options are put over them."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli.failures import FAILED, Failure, usage
from app.cli.places import Document, excerpt, place_of

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def empty() -> Document:
    """Return the document of a submission without a file: all of it comes from its base, and from options."""
    return Document("the command line", "{}", {}, {})


def read(path: str) -> Document:
    """Read a JSON object from a file, or from standard input for `-`; say line and column of what is wrong."""
    name = "standard input" if path == "-" else path
    return parse(_text(path, name), name)


def _text(path: str, name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise usage(f"{name} cannot be read: {error.strerror}.", code="unreadable-file") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Failure(
            f"{name} is not UTF-8 text (byte {error.start}).", code="not-text", hint="Give the input.json itself."
        ) from error


def parse(text: str, name: str) -> Document:
    """Parse a JSON object. Refuses what parsers pass over in silence: repeated keys, NaN and Infinity."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise _syntax(name, text, error.msg, error.pos) from error
    except RecursionError as error:
        raise Failure(f"{name} is nested too deeply.", code="invalid-json") from error
    if not isinstance(value, dict):
        raise Failure(f"{name} holds {_kind(value)}, not a JSON object.", code="invalid-json")
    offsets: dict[str, int] = {}
    _walk(_Walk(name, text, offsets), 0, "")
    return Document(name, text, value, offsets)


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _syntax(name: str, text: str, message: str, offset: int, hint: str | None = None) -> Failure:
    place = place_of(text, offset)
    shown = "\n".join(excerpt(text, place))
    return Failure(
        f"{name} is not valid JSON, line {place.line} column {place.column}: {message}\n{shown}",
        code="invalid-json",
        hint=hint or _advice(text, offset),
        exit_code=FAILED,
    )


def _advice(text: str, offset: int) -> str | None:
    before = text[:offset].rstrip()
    after = text[offset : offset + 2]
    if before.endswith(",") and after[:1] in ("}", "]"):
        return "JSON allows no comma after the last entry: remove it."
    if after[:1] == "'":
        return "JSON strings stand in double quotes."
    if after == "//" or after[:1] == "#":
        return 'JSON has no comments; where the engine allows it, a key that begins with an underscore is one: "_comment": "…".'
    return None


@dataclass(frozen=True)
class _Walk:
    name: str
    text: str
    offsets: dict[str, int]


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _walk(walk: _Walk, at: int, pointer: str) -> int:
    """Record where every part of the (valid) value at `at` stands; return the offset after it."""
    at = _skip(walk.text, at)
    first = walk.text[at]
    if first == "{":
        return _walk_object(walk, at + 1, pointer)
    if first == "[":
        return _walk_array(walk, at + 1, pointer)
    if walk.text.startswith(("NaN", "Infinity", "-Infinity"), at):
        raise _syntax(walk.name, walk.text, "NaN and Infinity are not JSON", at, "Write a finite number, or null.")
    return _DECODER.raw_decode(walk.text, at)[1]


def _walk_object(walk: _Walk, at: int, pointer: str) -> int:
    while walk.text[at := _skip(walk.text, at)] != "}":
        key, end = _DECODER.raw_decode(walk.text, at)
        member = f"{pointer}/{escape(key)}"
        if member in walk.offsets:
            line = place_of(walk.text, walk.offsets[member]).line
            raise _syntax(walk.name, walk.text, f'the key "{key}" already stands on line {line}', at, "Remove one.")
        walk.offsets[member] = at
        at = _skip(walk.text, _walk(walk, _skip(walk.text, end) + 1, member))
        at += walk.text[at] == ","
    return at + 1


def _walk_array(walk: _Walk, at: int, pointer: str) -> int:
    index = 0
    while walk.text[at := _skip(walk.text, at)] != "]":
        member = f"{pointer}/{index}"
        walk.offsets[member] = at
        at = _skip(walk.text, _walk(walk, at, member))
        at += walk.text[at] == ","
        index += 1
    return at + 1


def escape(key: str) -> str:
    """Return a key as a part of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def apply_settings(document: Document, settings: Sequence[str]) -> None:
    """Put `KEY.KEY=VALUE` over the document. A value that is not JSON is a string."""
    for setting in settings:
        key, equals, raw = setting.partition("=")
        if not equals or not all(key.split(".")):
            raise usage(f"--set {setting}: expected KEY.KEY=VALUE, as in --set training.numb_steps=1000.")
        parts = key.split(".")
        _assign(document.value, parts, _value(raw), setting)
        document.overrides["/config/" + "/".join(escape(part) for part in parts)] = f"--set {setting}"


def _value(raw: str) -> Any:
    try:
        return json.loads(raw)
    except json.JSONDecodeError:
        return raw


def _assign(target: Any, parts: Sequence[str], value: Any, setting: str) -> None:
    for part in parts[:-1]:
        key = _key(target, part, setting)
        target = target.setdefault(key, {}) if isinstance(target, dict) else target[key]
    target[_key(target, parts[-1], setting)] = value


def _key(target: Any, part: str, setting: str) -> str | int:
    if isinstance(target, dict):
        return part
    if not isinstance(target, list):
        raise usage(f"--set {setting}: the value above {part!r} is {_kind(target)} and has no parts.")
    if part.isdigit() and int(part) < len(target):
        return int(part)
    raise usage(f"--set {setting}: {part!r} is not an index of a list of {len(target)}.")
