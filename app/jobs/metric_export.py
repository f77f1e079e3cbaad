"""Whole histories as tables of all keys over all steps, streamed in windows of steps at bounded memory."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from sqlalchemy.orm import Session, sessionmaker

from app.db import reading
from app.engines.base import Engine
from app.jobs import metric_reading
from app.jobs.downsampling import downsample
from app.jobs.series import Array, Series


@dataclass(frozen=True)
class History:
    """What to export. Each window is read in a session of its own, as fast as the client takes the rows."""

    sessions: sessionmaker[Session]
    job_id: int
    keys: list[str]
    ranges: list[tuple[int, int]]
    max_points: int | None = None

    def pieces(self) -> Iterator[tuple[Array, dict[str, Array], dict[str, Array]]]:
        """Yield steps, values by key and presence by key of one window after the other."""
        if self.max_points is not None:
            limits = (self.ranges[0][0], self.ranges[-1][1]) if self.ranges else (0, 0)
            columns = {key: downsample(series, self.max_points) for key, series in self._read(*limits).items()}
            yield metric_reading.aligned(columns)
            return
        for first, last in self.ranges:
            yield metric_reading.aligned(self._read(first, last))

    def _read(self, first: int, last: int) -> dict[str, Series]:
        with reading(self.sessions) as session:
            return metric_reading.read(session, self.job_id, self.keys, first, last)


def csv(history: History) -> Iterator[bytes]:
    """Yield CSV: a column of steps and one per key; empty where not measured, `nan`, `inf` and `-inf` as they are."""
    yield (",".join(["step", *history.keys]) + "\n").encode()
    for steps, values, present in history.pieces():
        columns = [steps.tolist(), *(_cells(values[key], present[key]) for key in history.keys)]
        yield "".join(",".join(map(str, row)) + "\n" for row in zip(*columns, strict=True)).encode()


def _cells(values: Array, present: Array) -> list[Any]:
    cells: list[Any] = values.tolist()
    for index in np.flatnonzero(~present):
        cells[index] = ""
    return cells


def arrow(history: History) -> Iterator[bytes]:
    """Yield an Arrow IPC stream: `step` int64 and nullable float64 columns, one record batch per window."""
    import pyarrow as pa

    fields = [pa.field("step", pa.int64(), nullable=False), *(pa.field(key, pa.float64()) for key in history.keys)]
    schema = pa.schema(fields)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for steps, values, present in history.pieces():
            columns = [pa.array(values[key], mask=~present[key]) for key in history.keys]
            writer.write_batch(pa.record_batch([pa.array(steps), *columns], schema=schema))
            yield _taken(sink)
    yield _taken(sink)


def _taken(sink: io.BytesIO) -> bytes:
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return data


def learning_curve(history: History, engine: Engine, config: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the engine's own learning-curve file. The whole history is held, as 9 bytes per value."""
    pieces = list(history.pieces())
    steps = np.concatenate([piece[0] for piece in pieces]) if pieces else np.empty(0, np.int64)
    columns = {
        key: Column(
            np.concatenate([piece[1][key] for piece in pieces]), np.concatenate([piece[2][key] for piece in pieces])
        )
        for key in history.keys
        if pieces
    }
    waiting: list[str] = []
    for line in engine.learning_curve(config, Column(steps), columns):
        waiting.append(line)
        if len(waiting) >= 1000:
            yield "".join(waiting).encode()
            waiting.clear()
    yield "".join(waiting).encode()


class Column(Sequence[Any]):
    """An array that reads like a list of Python numbers, None where nothing was measured."""

    def __init__(self, values: Array, present: Array | None = None) -> None:
        self._values = values
        self._present = present

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> "Column": ...

    def __getitem__(self, index: int | slice) -> Any:
        """Return one number, or a part."""
        if isinstance(index, slice):
            return Column(self._values[index], None if self._present is None else self._present[index])
        if self._present is not None and not self._present[index]:
            return None
        return self._values[index].item()
