"""Metrics on their way out: rows in memory, then one Arrow IPC stream per batch, off the step's path."""

import math
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import SupportsFloat

import pyarrow as pa
import torch

from worker.background import Background
from worker.failures import is_disk_full

Row = dict[str, SupportsFloat]


class NonFiniteLoss(Exception):
    """The loss of a step is NaN or infinite."""

    def __init__(self, step: int, value: float) -> None:
        super().__init__(f"The loss of step {step} is {value}.")
        self.step = step


class MetricSpool:
    """Collects rows and writes them to numbered files, each renamed into place.

    Values may be numbers or 0-d tensors on a device. Those are copied to the host in the background and written one
    flush later, so that reporting never waits for the device. While the disk is full the batches wait in memory.
    """

    def __init__(self, directory: Path, background: Background, *, flush_s: float = 0.5, max_rows: int = 5000) -> None:
        self._background = background
        self.latest: dict[str, float] = {}
        self._directory = directory
        self._flush_s = flush_s
        self._max_rows = max_rows
        self._sequence = 0
        self._rows: dict[int, Row] = {}
        self._copying: deque[_Batch] = deque()
        self._unwritten: deque[tuple[Path, Mapping[int, Mapping[str, float]]]] = deque()
        """Batches on their way to the disk, oldest first. Only the background thread takes them away."""
        self._last_flush = -math.inf  # the first step is shown at once

    def add(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Add values measured at `step`. Raises NonFiniteLoss as soon as a loss on the host is not finite."""
        self._rows.setdefault(step, {}).update(metrics)
        for key, value in metrics.items():
            if key.startswith("train/loss") and not isinstance(value, torch.Tensor) and not math.isfinite(value):
                raise NonFiniteLoss(step, float(value))

    def is_due(self) -> bool:
        """Tell whether it is time to flush."""
        return time.monotonic() - self._last_flush >= self._flush_s or len(self._rows) >= self._max_rows

    def flush(self) -> None:
        """Start to move the rows collected so far, and write the batches that have arrived. Never waits."""
        self._start()
        while self._copying and self._copying[0].has_arrived():
            self._finish(self._copying.popleft())
        if self._unwritten:
            self._background.do(self._write_if_room)

    def drain(self) -> None:
        """Write everything, waiting for device and disk.

        Raises NonFiniteLoss like `add`, and OSError when the disk is full: then nothing is lost, and another call tries again.
        """
        self._start()
        try:
            while self._copying:
                self._finish(self._copying.popleft())
        finally:
            self._background.do(self._write_all)
            self._background.wait()

    def _start(self) -> None:
        self._last_flush = time.monotonic()
        if self._rows:
            self._copying.append(_Batch(self._rows))
            self._rows = {}

    def _finish(self, batch: "_Batch") -> None:
        """Write a batch up to its first non-finite loss; what came after it is not worth keeping."""
        rows = batch.values()
        bad = next((step for step, row in rows.items() if _has_bad_loss(row)), None)
        kept = rows if bad is None else {step: row for step, row in rows.items() if step <= bad}
        for row in kept.values():
            self.latest.update(row)
        self._unwritten.append((self._directory / f"{self._sequence:06d}.arrow", kept))
        self._sequence += 1
        if bad is not None:
            self._copying.clear()
            self._rows = {}
            raise NonFiniteLoss(bad, next(value for key, value in rows[bad].items() if key.startswith("train/loss")))

    def _write_if_room(self) -> None:
        try:
            self._write_all()
        except OSError as error:
            if not is_disk_full(error):
                raise

    def _write_all(self) -> None:
        while self._unwritten:
            _write(*self._unwritten[0])
            self._unwritten.popleft()


class _Batch:
    """Rows whose device values are being copied to pinned host memory, one copy per dtype."""

    def __init__(self, rows: dict[int, Row]) -> None:
        self._rows = rows
        self._places: dict[torch.dtype, list[tuple[int, str]]] = {}
        self._copies: dict[torch.dtype, torch.Tensor] = {}
        self._event: torch.cuda.Event | None = None
        self._copy()

    def _copy(self) -> None:
        on_device: dict[torch.dtype, list[torch.Tensor]] = {}
        for step, row in self._rows.items():
            for key, value in row.items():
                if isinstance(value, torch.Tensor):
                    self._places.setdefault(value.dtype, []).append((step, key))
                    on_device.setdefault(value.dtype, []).append(value.detach())
        for dtype, values in on_device.items():
            self._copies[dtype] = torch.stack(values).to("cpu", non_blocking=True)
        if any(value.is_cuda for values in on_device.values() for value in values):
            self._event = torch.cuda.Event()
            self._event.record()

    def has_arrived(self) -> bool:
        return self._event is None or self._event.query()

    def values(self) -> dict[int, dict[str, float]]:
        """Return the rows as numbers, waiting for the copy if need be."""
        if self._event is not None:
            self._event.synchronize()
        for dtype, places in self._places.items():
            for (step, key), value in zip(places, self._copies[dtype].tolist(), strict=True):
                self._rows[step][key] = value
        return {step: {key: float(value) for key, value in row.items()} for step, row in self._rows.items()}


def _has_bad_loss(row: Mapping[str, float]) -> bool:
    return any(key.startswith("train/loss") and not math.isfinite(value) for key, value in row.items())


def _write(path: Path, rows: Mapping[int, Mapping[str, float]]) -> None:
    """Write one record batch; no fsync, for the supervisor reads it on this machine within the second."""
    keys = sorted({key for row in rows.values() for key in row})
    columns = [pa.array(list(rows), type=pa.int64())]
    # from_pandas=False keeps NaN a value; only what was not measured is null.
    columns += [pa.array([row.get(key) for row in rows.values()], type=pa.float64(), from_pandas=False) for key in keys]
    batch = pa.record_batch(columns, names=["step", *keys])
    temporary = path.with_name(f".{path.name}.tmp")
    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    temporary.replace(path)
