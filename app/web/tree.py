"""A resolved configuration as the rows of a table: one per leaf, with where its value came from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.wire.resolution import Origin


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    pointer: str
    """JSON pointer of the value."""
    key: str
    """Last part of the pointer: what the line is headed by."""
    depth: int
    """How deep it is nested, 0 at the top."""
    value: Any = None
    """The value of a leaf; None for a section."""
    origin: Origin | None = None
    """Where a leaf's value came from; None for a section."""
    section: bool = False
    """Whether the line only opens a section."""


def rows(config: Mapping[str, Any], origins: Mapping[str, Origin]) -> list[Row]:
    """Return the lines of a resolved config, in its own order. A leaf is what has an origin, so a list may be one.

    Without origins every list of plain values is.
    """
    return list(_walk(config, origins, "", 0))


def _walk(value: Any, origins: Mapping[str, Origin], pointer: str, depth: int) -> Iterator[Row]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        here = f"{pointer}/{escape(str(key))}"
        if here in origins:
            yield Row(here, str(key), depth, item, origins[here])
        elif item and isinstance(item, dict | list) and not (_is_plain(item) and f"{here}/0" not in origins):
            yield Row(here, str(key), depth, section=True)
            yield from _walk(item, origins, here, depth + 1)
        else:
            yield Row(here, str(key), depth, item)


def _is_plain(value: Any) -> bool:
    """Return whether a value is a list that reads best on one line."""
    return isinstance(value, list) and not any(isinstance(item, dict | list) for item in value)


def escape(part: str) -> str:
    """Return a key as it stands in a JSON pointer (RFC 6901)."""
    return part.replace("~", "~0").replace("/", "~1")


def counts(origins: Mapping[str, Origin]) -> dict[str, int]:
    """Return how many leaves have each origin, the most frequent first."""
    found: dict[str, int] = {}
    for origin in origins.values():
        found[origin.origin] = found.get(origin.origin, 0) + 1
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
