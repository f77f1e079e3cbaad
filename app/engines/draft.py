"""A config while it is being resolved: its value so far, what is wrong with it, and what its origins are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.engines.base import Base
from app.engines.documents import dotted, leaves, parts, pointer
from app.engines.ways import Way, given, nearest
from app.wire.problems import Notice, Problem
from app.wire.resolution import LosingCandidate, Origin, OriginKind

Json = Any
Path = tuple[str | int, ...]


@dataclass
class Draft:
    """The working state of one resolution. `config` is complete with defaults."""

    submitted: Mapping[str, Json]
    config: dict[str, Json]
    way: Way
    candidates: Mapping[str, list[LosingCandidate]] = field(default_factory=dict)
    """Values of all layers for a leaf, the one in force first (`app.engines.layers`)."""
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)
    changed: dict[str, Origin] = field(default_factory=dict)
    """Origins that are not simply explicit, base, migrated or default, by pointer."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Remarks on values that are as the base or a default has them, by pointer."""
    base: Base | None = None

    def get(self, *path: str | int) -> Json:
        """Return the value at a path, or None when there is none."""
        value: Any = self.config
        for part in path:
            try:
                value = value[part]
            except (LookupError, TypeError):
                return None
        return value

    def number(self, *path: str | int) -> float | None:
        """Return the number at a path, or None when there is none."""
        value = self.get(*path)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def default(self, *path: str | int) -> Json:
        """Return the default of a leaf, or None when it has none."""
        candidates = self.candidates.get(pointer(*path), [])
        return next((candidate.value for candidate in candidates if candidate.origin == "default"), None)

    def is_inherited(self, *path: str | int) -> bool:
        """Return whether the value at a path is the base's."""
        candidates = self.candidates.get(pointer(*path), [])
        return bool(candidates) and candidates[0].origin == "base"

    def is_explicit(self, *path: str | int) -> bool:
        """Return whether the value at a path is one that was submitted, in whatever spelling."""
        candidates = self.candidates.get(pointer(*path), [])
        return bool(candidates) and candidates[0].origin == "explicit"

    def source(self, *path: str | int) -> str | None:
        """Return where the value at a path was submitted, or None when it was not."""
        at = self.way.back(pointer(*path)).pointer
        return at if given(self.submitted, at) else None

    def name(self, *path: str | int) -> str:
        """Return a path as people write it, in the spelling that was submitted."""
        return dotted(self.source(*path) or self.way.back(pointer(*path)).pointer)

    def refuse(self, code: str, path: Path, message: str, hint: str | None = None) -> None:
        """Record a mistake. `message` follows the name of the place."""
        at = nearest(self.submitted, self.way.back(pointer(*path)).pointer)
        if self.base and self.is_inherited(*path):
            message = f"{message} ({self.base.name} has it so)"
            more = "" if hint is None or hint.startswith("Remove it") else hint
            hint = f"Write another value here, or choose another base. {more}".rstrip()
        problem = Problem(code=code, message=f"{self.name(*path)} {message}", pointer=at, hint=hint)
        if problem not in self.problems:
            self.problems.append(problem)

    def warn(self, code: str, path: Path, message: str, hint: str | None = None) -> None:
        """Record something that its owner should know. `message` follows the name of the place."""
        at = nearest(self.submitted, self.way.back(pointer(*path)).pointer)
        notice = Notice(code=code, message=f"{self.name(*path)} {message}", pointer=at, hint=hint)
        if notice not in self.warnings:
            self.warnings.append(notice)

    def put(
        self, path: Path, value: Json, origin: OriginKind, *, note: str | None = None, source: str | None = None,
        ignored: str | None = None,
    ) -> None:  # fmt: skip
        """Set a value that was not submitted like this; what was there becomes the losing candidate."""
        *parents, last = path
        holder, at = self.get(*parents), pointer(*path)
        losing = [candidate for candidate in self.candidates.get(at, []) if candidate.value != value]
        holder[last] = value
        self.changed[at] = Origin(origin=origin, note=note, source=source, losing=losing, ignored=ignored)

    def note(self, path: Path, note: str) -> None:
        """Add a remark to the origin of a value that stays as it is."""
        origin = self.origin(pointer(*path))
        said = f"{origin.note}, {note}" if origin.note else note
        self.changed[pointer(*path)] = origin.model_copy(update={"note": said})

    def ignore(self, path: Path, reason: str) -> None:
        """Mark an explicit value that cannot take effect."""
        self.changed[pointer(*path)] = self.origin(pointer(*path)).model_copy(update={"ignored": reason})

    def origin(self, at: str) -> Origin:
        """Return the origin of the leaf at `at`."""
        if at in self.changed:
            return self.changed[at]
        candidates = self.candidates.get(at, [])
        losing = list(candidates[1:])
        if not candidates or candidates[0].origin == "default":
            # There may be several: a conversion of old inputs writes defaults of its own, which win over the schema's.
            others = [candidate for candidate in losing if candidate.value != candidates[0].value]
            return Origin(origin="default", note=self.notes.get(at), losing=others)
        if candidates[0].origin == "base":
            said = (self.base.name if self.base else None, self.notes.get(at))
            note = ", ".join(text for text in said if text)
            return Origin(origin="base", source=candidates[0].source, note=note, losing=losing)
        source = self.way.back(at)
        if source.is_migrated:
            note = f"written as {dotted(source.pointer)}"
            return Origin(origin="migrated", source=source.pointer, note=note, losing=losing)
        return Origin(origin="explicit", source=None if source.pointer == at else source.pointer, losing=losing)

    def origins(self) -> dict[str, Origin]:
        """Return the origin of every leaf."""
        return {at: self.origin(at) for at, _ in leaves(self.config)}


def place(document: Json, at: str) -> Path:
    """Return a pointer as a path: the keys of objects as text, the indices of lists as numbers."""
    path: list[str | int] = []
    value = document
    for part in parts(at):
        step: str | int = int(part) if isinstance(value, list) else part
        path.append(step)
        try:
            value = value[step]
        except (LookupError, TypeError):
            value = None
    return tuple(path)


def counted(count: int, what: str) -> str:
    """Return `1 frame`, `3 frames`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
