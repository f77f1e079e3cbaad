"""The JSON schema of a MiniMind config, made of the table of its keys."""

from functools import lru_cache
from typing import Any

from app.engines.documents import dotted, pointer
from app.engines.minimind.keys import KEYS, OF_SFT, Key, is_section, members
from app.engines.minimind.migrate import ARGUMENTS

Json = Any

_TYPES = {"integer": "integer", "number": "number", "boolean": "boolean", "text": "string"}
_COMMENTS = {"^_": {"description": "A comment."}}


@lru_cache
def json_schema() -> dict[str, Json]:
    """Return the JSON schema (draft 2020-12) of a submitted config, MiniMind's own arguments included."""
    schema = _section("")
    schema["properties"] |= {
        name: {**_argument(at), "deprecated": True, "description": f"MiniMind's argument; now {dotted(at)}."}
        for name, at in ARGUMENTS.items()
    }
    schema["properties"]["$schema"] = {"type": "string"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "MiniMind config", **schema}


def _section(at: str) -> dict[str, Json]:
    names = {name: at + pointer(name) for name in members(at)}
    properties = {name: _section(place) if is_section(place) else _key(place) for name, place in names.items()}
    return {
        "type": "object",
        "properties": properties,
        "patternProperties": _COMMENTS,
        "additionalProperties": False,
    }


def _key(at: str) -> dict[str, Json]:
    key = KEYS[at]
    schema = {"description": _description(at, key), **_type(key)}
    if not key.is_derived:
        schema["default"] = key.default
    return schema


def _argument(at: str) -> dict[str, Json]:
    return {"enum": [True, False, 1, 0]} if KEYS[at].kind == "boolean" else _key(at)


def _description(at: str, key: Key) -> str:
    return f"{key.doc} Stage sft: {OF_SFT[at]}." if at in OF_SFT else key.doc


def _type(key: Key) -> dict[str, Json]:
    if key.kind == "datasets":
        return {"type": ["string", "array"], "items": {"type": "string"}}
    if key.kind == "numbers":
        items = {"type": "number", **_range(key)}
        return {"type": "array", "items": items, "minItems": key.length, "maxItems": key.length}
    if key.choices:
        return {"enum": list(key.choices)}
    kind = _TYPES[key.kind]
    return {"type": [kind, "null"] if key.nullable else kind, **_range(key)}


def _range(key: Key) -> dict[str, Json]:
    bounds = {"minimum": key.low, "maximum": key.high, "exclusiveMinimum": key.above, "exclusiveMaximum": key.below}
    return {name: bound for name, bound in bounds.items() if bound is not None}
