"""JSON documents: pointers, leaves, the canonical text, and what no engine accepts."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from app.wire.problems import Problem

MAX_DEPTH = 32
"""Deepest nesting accepted. The deepest key of a real input is eight levels down."""

MAX_NODES = 100_000
"""Most values in one document. The largest published multi-task inputs have a few thousand."""

MAX_INTEGER = 2**63
"""Integers beyond 64 bits fit neither databases nor tensors."""


def pointer(*parts: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of the value reached through `parts`."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def parts(text: str) -> list[str]:
    """Return the keys that a JSON pointer goes through."""
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def dotted(at: str) -> str:
    """Return a pointer as people write it: `/training/numb_steps` is `training.numb_steps`."""
    text = ""
    for part in parts(at):
        text += f"[{part}]" if part.isdigit() else f".{part}"
    return text.lstrip(".") or "the config"


def short(value: Any) -> str:
    """Return a value as a message shows it: as it stands in JSON, cut at 60 characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def lookup(document: Any, text: str) -> Any:
    """Return the value that a JSON pointer names.

    Raises:
        LookupError: there is none.
    """
    value = document
    for part in parts(text):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def is_branch(value: Any) -> bool:
    """Return whether a value has leaves of its own: an object with members, or a list with an object in it."""
    if isinstance(value, dict):
        return bool(value)
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def leaves(document: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (pointer, value) of every leaf. A list of plain values is one leaf: nobody sets half of `neuron`."""
    if not is_branch(document):
        yield at, document
        return
    members = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in members:
        yield from leaves(value, at + pointer(key))


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, ASCII. Equal texts mean equal values.

    Raises:
        ValueError: NaN or an infinity, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def malformed(document: Mapping[str, Any]) -> list[Problem]:
    """Return what makes a document unfit for any engine: nesting, size, NaN, oversized integers, broken text."""
    problems: list[Problem] = []
    pending: list[tuple[str, int, Any]] = [("", 1, document)]
    seen = 0
    while pending:
        at, depth, value = pending.pop()
        seen += 1
        if seen > MAX_NODES:
            return [_too("large", f"more than {MAX_NODES} values", "")]
        if depth > MAX_DEPTH:
            return [_too("deep", f"nested more than {MAX_DEPTH} levels", "/" + at.split("/")[1])]
        problem = _malformed_value(value, at)
        if problem:
            problems.append(problem)
        pending.extend(_members(value, at, depth))
    return sorted(problems, key=lambda problem: problem.pointer or "")


def _members(value: Any, at: str, depth: int) -> Iterator[tuple[str, int, Any]]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield at + pointer(_printable(key)), depth + 1, member if _is_text(key) else key
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield at + pointer(index), depth + 1, member


def _malformed_value(value: Any, at: str) -> Problem | None:
    if isinstance(value, float) and not math.isfinite(value):
        return Problem(
            code="not-finite",
            message=f"{at or 'the config'} is {value}, which is not a JSON number",
            pointer=at,
            hint="Write a finite number, or leave the key out for its default.",
        )
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return Problem(
            code="out-of-range",
            message=f"{at} is an integer of {value.bit_length()} bits; 64 is the most",
            pointer=at,
            hint="Write a smaller number.",
        )
    if isinstance(value, str) and not _is_text(value):
        return Problem(
            code="not-text",
            message=f"{at} holds characters that are not text (an unpaired surrogate or a NUL)",
            pointer=at,
            hint="Save the file as UTF-8.",
        )
    return None


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _printable(value: str) -> str:
    return value.encode("ascii", "backslashreplace").decode() if not _is_text(value) else value


def _too(what: str, why: str, at: str) -> Problem:
    return Problem(
        code=f"too-{what}",
        message=f"the config is {why}",
        pointer=at,
        hint="Is this the file that you meant to send?",
    )
