"""The leaves of a job's resolved config as rows, and searching jobs by them: `explicit:descriptor.rcut > 6`."""

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

from sqlalchemy import ColumnElement, func, or_, select

from app.engines.documents import leaves, malformed, parts, pointer
from app.errors import Invalid
from app.tables import Job, JobLeaf
from app.wire.problems import Problem
from app.wire.resolution import Origin, OriginKind

MAX_POINTER, MAX_NAME, MAX_TEXT = 500, 200, 500
"""Widths of the columns. A leaf that lies deeper or is called longer cannot be searched for; longer text is cut."""

EXAMPLES = "`descriptor.rcut > 6`, `model.descriptor.type = dpa2`, `explicit:descriptor.rcut`"
ORIGINS: tuple[str, ...] = get_args(OriginKind)

_EXPRESSION = re.compile(
    r"(?:(?P<origin>\w+):\s*)?(?P<path>[^\s<>=!:.]+(?:\.[^\s<>=!:.]+)*)(?:\s*(?P<operator><=|>=|!=|=|<|>)\s*(?P<value>[^\s=<>!].*))?"
)
_COMPARE: Mapping[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def rows(job_id: int, config: Mapping[str, Any], origins: Mapping[str, Origin]) -> list[dict[str, Any]]:
    """Return one row of `job_leaves` for every leaf of a resolved config."""
    return [_row(job_id, at, value, origins[at]) for at, value in leaves(config) if _fits(at)]


def _fits(at: str) -> bool:
    return len(at) <= MAX_POINTER and len(_name(at)) <= MAX_NAME


def _name(at: str) -> str:
    """Return the last key of a pointer; a config without any member is a leaf itself and has none."""
    return parts(at)[-1] if at else ""


def _row(job_id: int, at: str, value: Any, origin: Origin) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "pointer": at,
        "name": _name(at),
        "origin": origin.origin,
        "number": float(value) if _is_number(value) else None,
        "text": _text(value),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)[:MAX_TEXT]


def matching(expressions: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    """Yield one condition on `jobs` for each expression: `[ORIGIN:]KEY.KEY [= != < <= > >= VALUE]`.

    The dotted path is the end of a leaf's; without an operator the leaf only has to exist.

    Raises:
        Invalid: with every expression that cannot be read.
    """
    read = [_read(text) for text in expressions]
    problems = [found for found in read if isinstance(found, Problem)]
    if problems:
        raise Invalid(problems)
    for conditions in read:
        assert not isinstance(conditions, Problem)
        yield Job.id.in_(select(JobLeaf.job_id).where(*conditions))


def _read(text: str) -> list[ColumnElement[bool]] | Problem:
    match = _EXPRESSION.fullmatch(text.strip())
    if match is None:
        return _wrong(text, "cannot be read as [ORIGIN:]KEY.KEY [OPERATOR VALUE]")
    origin, sign, raw = match["origin"], match["operator"], match["value"]
    if origin is not None and origin not in ORIGINS:
        return _wrong(text, f"{origin!r} is no origin; there are {', '.join(ORIGINS)}")
    value = None if raw is None else _value(raw)
    if malformed({match["path"]: value}):
        return _wrong(text, "holds a number or characters that no config has")
    keys = match["path"].split(".")
    conditions = [JobLeaf.name == keys[-1]]
    if len(keys) > 1:
        conditions.append(_ends_with(pointer(*keys)))
    if origin is not None:
        conditions.append(JobLeaf.origin == origin)
    if sign is None:
        return conditions
    if sign not in ("=", "!=") and not _is_number(value):
        return _wrong(text, f"{sign} compares numbers, and {raw!r} is none")
    return [*conditions, _compared(sign, value)]


def _ends_with(end: str) -> ColumnElement[bool]:
    # Not LIKE: SQLite's takes no notice of case.
    return func.substr(JobLeaf.pointer, func.length(JobLeaf.pointer) - len(end) + 1) == end


def _value(raw: str) -> Any:
    """Return a value as JSON; what is no JSON is text, so that nobody needs quotes around `dpa2`."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return raw


def _compared(sign: str, value: Any) -> ColumnElement[bool]:
    if not _is_number(value):
        return _COMPARE[sign](JobLeaf.text, _text(value))
    found = _COMPARE[sign](JobLeaf.number, float(value))
    return or_(found, JobLeaf.number.is_(None)) if sign == "!=" else found


def _wrong(text: str, why: str) -> Problem:
    message = f"query parameter `where`: {text!r}: {why}"
    hint = f"Examples: {EXAMPLES}. Operators: {' '.join(_COMPARE)}."
    return Problem(code="bad-search", message=message, hint=hint)
