"""What pydantic finds wrong, as problems with JSON pointers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.wire.problems import Problem

PLACES = {"query": "query parameter", "header": "header", "cookie": "cookie", "path": "address part"}


def problems_of(errors: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """Return one problem per error of `ValidationError.errors()` or `RequestValidationError.errors()`."""
    return [_problem(error) for error in errors]


def _problem(error: Mapping[str, Any]) -> Problem:
    loc: Sequence[str | int] = error["loc"]
    place = loc[0] if loc else ""
    if error["type"] == "json_invalid":
        return Problem(code="invalid-json", message=f"the body is not valid JSON: {error['ctx']['error']}")
    if place in PLACES:
        name = ".".join(str(part) for part in loc[1:])
        return Problem(code=_code(error), message=f"{PLACES[str(place)]} `{name}`: {_words(error)}")
    where = loc[1:] if place == "body" else loc
    pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in where)
    return Problem(code=_code(error), message=f"{pointer or 'the body'}: {_words(error)}", pointer=pointer)


def _code(error: Mapping[str, Any]) -> str:
    kind = str(error["type"])
    return {"extra_forbidden": "unknown-key", "missing": "missing-key"}.get(kind, kind.replace("_", "-"))


def _words(error: Mapping[str, Any]) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return "there is no such key"
    if kind == "missing":
        return "is required"
    if kind in ("too_short", "too_long") and error["ctx"].get("actual_length") is not None:
        least = kind == "too_short"
        bound = error["ctx"]["min_length" if least else "max_length"]
        return f"has {error['ctx']['actual_length']} entries; at {'least' if least else 'most'} {bound}"
    message = str(error["msg"]).removeprefix("Value error, ")
    shown = repr(error.get("input"))
    return f"{message[0].lower()}{message[1:]}" + (f", not {shown}" if len(shown) <= 60 else "")
