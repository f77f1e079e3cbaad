"""A JSON object as a person wrote it, and on which line a JSON pointer stands in it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Place:
    """A position in a text, counted from 1."""

    line: int
    column: int


@dataclass
class Document:
    """A parsed JSON object and where its parts stand."""

    name: str
    text: str
    value: dict[str, Any]
    offsets: dict[str, int]
    """Offset of each member's key and each element, by JSON pointer."""
    overrides: dict[str, str] = field(default_factory=dict)
    """What options put over the file or beside it: the option's text by JSON pointer into the submission."""

    def place(self, pointer: str | None) -> Place | None:
        """Return where `pointer` stands, or the nearest enclosing part that is written in the file."""
        while pointer:
            if pointer in self.offsets:
                return place_of(self.text, self.offsets[pointer])
            pointer = pointer.rpartition("/")[0]
        return None

    def override(self, pointer: str | None) -> str | None:
        """Return the option that wrote the value at `pointer` into the submission, or None."""
        return next((text for key, text in self.overrides.items() if pointer and _below(pointer, key)), None)


def _below(pointer: str, ancestor: str) -> bool:
    return pointer == ancestor or pointer.startswith(ancestor + "/")


def place_of(text: str, offset: int) -> Place:
    """Return the line and column of an offset."""
    start = text.rfind("\n", 0, offset) + 1
    return Place(text.count("\n", 0, offset) + 1, offset - start + 1)


def excerpt(text: str, place: Place) -> list[str]:
    """Return the line at `place` with its number, and a caret below the column."""
    line = text.splitlines()[place.line - 1] if place.line <= len(text.splitlines()) else ""
    # A minified file has one line of a million characters: show the part around the place.
    start = max(0, place.column - 60) if len(line) > 160 else 0
    number = f"{place.line:>5} | "
    shown = line[start : start + 120].expandtabs(1)
    return [number + shown, " " * (len(number) + place.column - 1 - start) + "^"]
