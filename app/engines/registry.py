"""The engines there are. A new one is one more entry."""

from app.engines.base import Engine
from app.engines.deepmd import ENGINE as DEEPMD

ENGINES: tuple[Engine, ...] = (DEEPMD,)


def get(name: str) -> Engine | None:
    """Return the engine of that name, or None."""
    return next((engine for engine in ENGINES if engine.name == name), None)
