"""Metrics on their way to the server: how many batches go in one message, and how long to wait for the next."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SHIP_S = 0.5
"""Seconds between two looks at the run directory; also how stale a live page is."""
LONGEST_S = 5.0
PATIENCE = 20
"""Times what the server took for a message that nothing more is asked of it, when that is longer than `SHIP_S`."""
CAUTION = 0.9
BATCHES_AT_ONCE = 50
"""Batches of one message: after an outage the log should not wait for an hour of metrics."""
BYTES_AT_ONCE = 1 << 20
"""Size from which on a message takes no further batch."""


class Pace:
    """How long to wait between two messages. A busy server is sent fewer of them, with more in each.

    So what all its workers want of it stays within what it can do. By chance some wait longer than others, or all that
    were answered late would come again together; and what was slow is trusted to be quick again bit by bit.
    """

    def __init__(self) -> None:
        self._took_s = 0.0

    def note(self, took_s: float) -> None:
        """Learn how long the server took for a message."""
        self._took_s = max(took_s, CAUTION * self._took_s)

    def pause_s(self) -> float:
        """Return how long to wait."""
        return min(LONGEST_S, max(SHIP_S, PATIENCE * self._took_s)) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret


@dataclass(frozen=True)
class Message:
    """Batches that are sent as one, under the number of the first."""

    seq: int
    data: bytes
    files: Sequence[Path]
    more: bool
    """Whether further batches wait already."""


def gather(batches: Sequence[Path]) -> Message | None:
    """Return the message that begins with the oldest of these files; None without any.

    A batch whose steps do not come after those before it begins a message of its own.
    """
    taken: list[Path] = []
    size = 0
    for path in batches[:BATCHES_AT_ONCE]:
        taken.append(path)
        size += path.stat().st_size
        if size >= BYTES_AT_ONCE:
            break
    if not taken:
        return None
    data, count = (taken[0].read_bytes(), 1) if len(taken) == 1 else _joined(taken)
    return Message(int(taken[0].stem), data, taken[:count], more=len(batches) > count)


def _joined(files: Sequence[Path]) -> tuple[bytes, int]:
    """Return batches as one Arrow stream, and how many of them it holds: as many as can be read and follow each other."""
    import pyarrow as pa

    tables: list[pa.Table] = []
    for path in files:
        try:
            table = pa.ipc.open_stream(path.read_bytes()).read_all()
            follows = not tables or table["step"][0].as_py() > tables[-1]["step"][-1].as_py()
        except (pa.ArrowException, LookupError, OSError):
            break
        if not follows:
            break
        tables.append(table)
    if len(tables) < 2:  # what cannot be read goes as it is: the server says what is wrong with it
        return files[0].read_bytes(), 1
    whole = pa.concat_tables(tables, promote_options="default").combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    return sink.getvalue().to_pybytes(), len(tables)
