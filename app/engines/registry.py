"""The engines there are. A new one is one more entry."""

from collections.abc import Sequence

from app.engines.base import Engine, Task
from app.engines.deepmd import ENGINE as DEEPMD
from app.engines.minimind import ENGINE as MINIMIND
from app.wire.metrics import panel_of

ENGINES: tuple[Engine, ...] = (DEEPMD, MINIMIND)


FIRST = ENGINES[0].name
"""Whose a thing is that nothing else is known of."""


def get(name: str) -> Engine | None:
    """Return the engine of that name, or None."""
    return next((engine for engine in ENGINES if engine.name == name), None)


def known(name: str) -> Engine:
    """Return the engine of a name that was checked before."""
    engine = get(name)
    assert engine is not None, name
    return engine


def of_file(name: str) -> str:
    """Return which engine a file of that name is for: the one that alone reads such files, else the first."""
    return next((engine.name for engine in ENGINES if name.endswith(engine.data_words.endings)), FIRST)


def headline(engine: str, kind: str) -> Sequence[str]:
    """Return the metric keys worth a column of an engine's jobs of a kind; none of an engine that is gone."""
    shows = get(engine) if kind == "train" else task(engine, kind)
    return shows.headline() if shows else ()


def unit(engine: str, key: str) -> str:
    """Return what an engine measures a metric in; nothing when it has no unit, or none that is known."""
    found = get(engine)
    words = found.metric_words.get(panel_of(key)) if found else None
    return words.unit if words else ""


def task(engine: str, kind: str) -> Task | None:
    """Return what an engine does for jobs of a kind; None for trainings, and for what it does not do."""
    found = get(engine)
    return found.tasks.get(kind) if found else None
