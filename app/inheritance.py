"""Where the values of a resolved config came from, in words: one line per value that is more than a default."""

from typing import Any

from app.engines.documents import dotted, leaves, short
from app.wire.resolution import Origin, Resolution


def inheritance(resolution: Resolution, base: str | None = None, sha256: str | None = None) -> list[str]:
    """Return one line per leaf that was inherited, migrated, derived, has no effect, or won against the base.

    `base` is the base's name (`water@3`). In the order of the config.
    """
    words = (_words(at, value, resolution.origins[at], base, sha256) for at, value in leaves(resolution.config))
    return [line for line in words if line is not None]


def _words(at: str, value: Any, origin: Origin, base: str | None, sha256: str | None) -> str | None:
    said = _of_origin(origin, base, sha256)
    if origin.ignored is not None:
        said = [*(said or [origin.origin]), f"has no effect, {origin.ignored}"]
    return f"{dotted(at)} = {short(value)}: {'; '.join(said)}" if said else None


def _of_origin(origin: Origin, base: str | None, sha256: str | None) -> list[str]:
    """Return what is worth saying of an origin, in parts; nothing for a default and for what nobody contested."""
    had = _lost(origin, "base")
    against = [f"{base or 'the base'} had {had[0]}"] if had else []
    if origin.origin == "base":
        digest = f" (sha256 {sha256[:12]}…)" if sha256 else ""
        note = [origin.note.removeprefix(f"{base}, ")] if origin.note and origin.note != base else []
        return [f"inherited from {base or 'the base'}{digest}", *note, *_would_be(origin)]
    if origin.origin in ("migrated", "derived"):
        return [origin.origin, *([origin.note] if origin.note else []), *against]
    if against:
        return [origin.origin, *against, *([origin.note] if origin.note else [])]
    return []


def _would_be(origin: Origin) -> list[str]:
    default = _lost(origin, "default")
    return [f"default would be {default[0]}"] if default else []


def _lost(origin: Origin, kind: str) -> list[str]:
    return [short(candidate.value) for candidate in origin.losing if candidate.origin == kind]
