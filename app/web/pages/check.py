"""The server's answer while a job is put together: a part of the submit page, rendered again with every check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from app.web.plan import Part
from app.web.tree import Row
from app.wire.resolution import Check


@dataclass(frozen=True)
class CheckPart:
    """What a submission would become: verdict, resolved configuration, transfer plan, inheritance in words."""

    template: ClassVar[str] = "check.html"

    check: Check
    """The server's answer."""
    rows: Sequence[Row]
    """The resolved configuration, a line per value."""
    counts: Mapping[str, int]
    """How many values have each origin."""
    parts: Sequence[Part]
    """The transfer plan by component; empty without one."""
