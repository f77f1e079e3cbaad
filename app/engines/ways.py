"""A submitted config on its way into an engine's current form, with the way back to what was submitted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.engines.documents import lookup, parts, pointer

Json = Any


@dataclass(frozen=True)
class Source:
    """Where a value stood in what was submitted."""

    pointer: str
    is_migrated: bool
    """Whether it was spelled in an older way there."""


@dataclass
class Way:
    """Every rewriting of the document so far: new place by old place. A place stands for all that is below it."""

    _steps: list[tuple[bool, Mapping[str, str]]] = field(default_factory=list)

    def add(self, moves: Mapping[str, str], *, migration: bool) -> None:
        """Record one rewriting; `moves` are pointers before it by pointers after it."""
        if moves:
            self._steps.append((migration, dict(moves)))

    def back(self, at: str) -> Source:
        """Return where the value that is now at `at` was in what was submitted, if it was there at all."""
        is_migrated = False
        for migration, moves in reversed(self._steps):
            moved = _moved(at, moves)
            if moved is not None:
                at = moved
                is_migrated = is_migrated or migration
        return Source(at, is_migrated)


def _moved(at: str, moves: Mapping[str, str]) -> str | None:
    head = at
    while head:
        if head in moves:
            return moves[head] + at[len(head) :]
        head = head.rpartition("/")[0]
    return None


def given(submitted: Mapping[str, Json], at: str) -> bool:
    """Return whether `submitted` has a value at `at`."""
    try:
        lookup(submitted, at)
    except (LookupError, TypeError, ValueError):
        return False
    return True


def nearest(submitted: Mapping[str, Json], at: str) -> str:
    """Return `at`, or its nearest ancestor that was submitted: where an editor can show a missing key."""
    steps = parts(at)
    while steps and not given(submitted, pointer(*steps)):
        steps.pop()
    return pointer(*steps)
