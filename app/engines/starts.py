"""Checks of `Start` that are the same for every engine."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from app.engines.base import Base
from app.engines.documents import dotted, leaves, parts, pointer, short
from app.engines.ways import Way
from app.wire.problems import Problem
from app.wire.submission import Start

Json = Any


def not_resumable(base: Base) -> Problem:
    """Return what is said of a base that does not hold all that a training needs to go on."""
    form = base.facts.form
    message = f"{base.name} is a {form}: it does not say how it was trained, so that training cannot be resumed"
    hint = "Resume a checkpoint of one of Cairn's own jobs, or start a new training from these weights with mode init."
    return Problem(code="not-resumable", message=message, pointer="/base", hint=hint)


def unreadable(base: Base) -> Problem:
    """Return what is said of a base that does not describe itself as such a model does."""
    message = f"{base.name} describes its own model or training in a way that cannot be read"
    hint = "Choose another base, or make this one again."
    return Problem(code="unreadable-base", message=message, pointer="/base", hint=hint)


def check_allow(start: Start, config: Mapping[str, Json], way: Way) -> list[Problem]:
    """Return the entries of `start.allow` that name nothing in a config."""
    if not start.allow:
        return []
    known: set[str] = set()
    for at, _ in leaves(config):
        for place in (at, way.back(at).pointer):
            steps = parts(place)
            known |= {dotted(pointer(*steps[: count + 1])) for count in range(len(steps))}
    return [
        Problem(
            code="unknown-key",
            message=f"start.allow names {short(entry)}, which the config does not have",
            pointer=pointer("allow", index),
            hint=near(entry, known).strip() or "Name a key, or a part with all below it: model.",
        )
        for index, entry in enumerate(start.allow)
        if entry not in known
    ]


def near(asked: str | None, names: Collection[str]) -> str:
    """Return `Did you mean …? ` with the name that is most like what was asked for; nothing when none is."""
    found = difflib.get_close_matches(asked or "", names, n=1, cutoff=0.5)
    return f"Did you mean {found[0]}? " if found else ""
