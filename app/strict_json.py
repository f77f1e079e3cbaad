"""JSON as the standard has it, with the line and column of every mistake: no NaN, no key twice, no broken text."""

import json
import math
import re
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.errors import Invalid
from app.wire.problems import Problem

MAX_DEPTH = 100
"""Deepest nesting accepted. Python gives up at some hundreds, in one place or another."""

MAX_DIGITS = 400
"""Longest number accepted: Python itself refuses, or takes ages over, much longer ones."""


def loads(data: bytes, what: str = "the body") -> Any:
    """Return the value of a JSON text in UTF-8; `what` names it in messages.

    Raises:
        Invalid: anything that is not JSON, with code `invalid-json`, the line and the column.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _fault(what, f"byte {error.start} is not UTF-8", "Save the file as UTF-8.") from None
    return loads_text(text, what)


def loads_text(text: str, what: str = "the body") -> Any:
    """Like `loads`, from a string."""
    try:
        value = json.loads(
            text,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_integer,
            object_pairs_hook=_unique,
        )
    except json.JSONDecodeError as error:
        raise _fault(what, f"line {error.lineno}, column {error.colno}: {_plain(error.msg)}", _hint(error)) from None
    except _Refused as error:
        raise _fault(what, _place(text, error.pattern) + str(error), error.hint) from None
    except RecursionError:
        raise _too_deep(what) from None
    if not _is_flat(value):
        raise _too_deep(what)
    if not _is_text(value):
        message = "it holds characters that are not text (a NUL or an unpaired surrogate)"
        raise _fault(what, _place(text, r"\\u0000|\\u[dD][89a-fA-F]|\x00") + message, "Remove them.")
    return value


class StrictRequest(Request):
    """A request whose `json()` is strict. FastAPI calls it for every route with a body model."""

    async def json(self) -> Any:
        """Return the body's value."""
        return loads(await self.body())


class StrictRoute(APIRoute):
    """A route whose JSON bodies are read strictly. `APIRouter(route_class=StrictRoute)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, given a strict request."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return strict


class _Refused(ValueError):
    """Found inside the parser, which does not say where: `pattern` finds the place again."""

    def __init__(self, message: str, pattern: str, hint: str) -> None:
        super().__init__(message)
        self.pattern = pattern
        self.hint = hint


def _no_constant(name: str) -> None:
    raise _Refused(f"{name} is not a JSON number", rf"(?<![\w\"]){re.escape(name)}\b", "Write a finite number.")


def _finite(digits: str) -> float:
    value = float(digits)
    if len(digits) > MAX_DIGITS or not math.isfinite(value):
        raise _Refused(f"{digits[:40]} is too large for a number", re.escape(digits), "Write a smaller number.")
    return value


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _Refused(f"a number of {len(digits)} digits", re.escape(digits), "Write a smaller number.")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        # Which of several equal keys of the document it is, is not known here: no place is better than a wrong one.
        raise _Refused(f"the key {twice!r} stands twice in one object", "", "Keep the one you mean.")
    return value


def _is_text(value: Any) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str) and ("\0" in item or (not item.isascii() and _has_surrogate(item))):
            return False
        if isinstance(item, dict):
            pending.extend(item.keys())
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return True


def _is_flat(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [member for item in level if isinstance(item, (dict, list)) for member in _members(item)]
        if not level:
            return True
    return False


def _members(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _place(text: str, pattern: str) -> str:
    match = re.search(pattern, text) if pattern else None
    if match is None:
        return ""
    line = text.count("\n", 0, match.start()) + 1
    column = match.start() - text.rfind("\n", 0, match.start())
    return f"line {line}, column {column}: "


def _plain(message: str) -> str:
    return message[0].lower() + message[1:]


def _hint(error: json.JSONDecodeError) -> str:
    line = error.doc.splitlines()[error.lineno - 1].strip() if error.doc.strip() else ""
    if not line:
        return "Nothing was sent, or it ends too early." if not error.doc.strip() else "It ends too early."
    if "//" in line or "/*" in line or line.startswith("#"):
        return "JSON has no comments."
    return f"Look at: {line[:120]}"


def _too_deep(what: str) -> Invalid:
    return _fault(what, f"it is nested more than {MAX_DEPTH} levels deep", "Is this the file that you meant to send?")


def _fault(what: str, message: str, hint: str) -> Invalid:
    return Invalid([Problem(code="invalid-json", message=f"{what} is not valid JSON: {message}", hint=hint)])
