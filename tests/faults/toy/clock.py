"""A wall clock that a test sets wrong while its process runs. The clock that only counts seconds stays right, as it does in life."""

import os
import time
from contextlib import suppress
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

VARIABLE = "CAIRN_FAULTS_CLOCK"
"""Names a file with the seconds by which the clock is fast. Without one, or before it is there, the clock is right."""


def error_s() -> float:
    """Return by how many seconds the clock of this process is fast."""
    with suppress(KeyError, OSError, ValueError):
        return float(Path(os.environ[VARIABLE]).read_text())
    return 0.0


class WrongDatetime(datetime):
    """`datetime` for a module whose `now` is to be wrong."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + timedelta(seconds=error_s())


def install() -> None:
    """Make `time.time` of this process wrong, if a test wants to be able to."""
    if VARIABLE in os.environ:
        right = time.time
        time.time = lambda: right() + error_s()
