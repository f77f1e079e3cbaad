"""A group's metrics over steps: read in windows, so that memory grows neither with the steps nor with the replicas."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from sqlalchemy.orm import Session, sessionmaker

from app.db import reading
from app.groups.bands import Bands, Total
from app.jobs import metric_reading
from app.jobs.downsampling import MIN_POINTS
from app.jobs.metric_reading import POINTS_PER_POINT
from app.jobs.series import Array
from app.wire.groups import Band, GroupMetrics
from app.wire.metrics import MetricKey

WINDOW_VALUES = 1 << 20
"""Values of one run that are held at a time, all metrics together."""

COLUMNS = tuple(field.name for field in fields(Bands))


@dataclass(frozen=True)
class Extent:
    """Where a metric lies in the runs of a group."""

    key: str
    first: int
    last: int
    spacing: float
    """Steps from one value to the next, in the run that has most of them."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of a group's metrics."""

    job_ids: Sequence[int]
    extents: Sequence[Extent]
    from_step: int | None = None
    to_step: int | None = None

    def of(self, extent: Extent) -> "Wanted":
        """Return the same, of one metric."""
        return Wanted(self.job_ids, [extent], self.from_step, self.to_step)

    def windows(self) -> list[tuple[int, int]]:
        """Return step ranges that cover what is asked for."""
        if not self.extents:
            return []
        first, last = min(one.first for one in self.extents), max(one.last for one in self.extents)
        start = first if self.from_step is None else max(first, self.from_step)
        stop = last if self.to_step is None else min(last, self.to_step)
        width = max(1, int(min(one.spacing for one in self.extents) * (WINDOW_VALUES // len(self.extents))))
        return [(at, min(at + width - 1, stop)) for at in range(start, stop + 1, width)]


def wanted(
    session: Session, job_ids: Sequence[int], keys: Sequence[str] | None, from_step: int | None, to_step: int | None
) -> Wanted:
    """Return which of the metrics asked for there are (`val/*` stands for many; None: all), and where."""
    found: dict[str, list[MetricKey]] = {}
    for job_id in job_ids:
        for one in metric_reading.list_keys(session, job_id):
            found.setdefault(one.key, []).append(one)
    chosen = [key for key in sorted(found) if keys is None or any(fnmatchcase(key, pattern) for pattern in keys)]
    return Wanted(job_ids, [_extent(key, found[key]) for key in chosen], from_step, to_step)


def _extent(key: str, runs: Sequence[MetricKey]) -> Extent:
    first, last = min(run.first_step for run in runs), max(run.last_step for run in runs)
    return Extent(key, first, last, min((run.last_step - run.first_step + 1) / run.count for run in runs))


def read(session: Session, asked: Wanted, max_points: int) -> dict[str, Bands]:
    """Return each metric's bands, thinned to at most this many steps, at least MIN_POINTS."""
    ranges = asked.windows()
    enough = max(MIN_POINTS, max_points * POINTS_PER_POINT // max(len(ranges), 1))
    pieces: dict[str, list[Bands]] = {one.key: [] for one in asked.extents}
    for limits in ranges:
        for key, found in _window(session, asked, limits).items():
            pieces[key].append(found.outlined(enough) if len(ranges) > 1 else found)
    return {key: Bands.joined(found).downsampled(max_points) for key, found in pieces.items() if found}


def _window(session: Session, asked: Wanted, limits: tuple[int, int]) -> dict[str, Bands]:
    totals = {one.key: Total() for one in asked.extents}
    for job_id in asked.job_ids:
        for key, series in metric_reading.read(session, job_id, list(totals), *limits).items():
            totals[key].add(series)
    return {key: total.bands() for key, total in totals.items()}


def as_json(found: dict[str, Bands]) -> bytes:
    """Return a GroupMetrics."""
    columns: dict[str, dict[str, Any]] = {
        key: {name: _listed(getattr(one, name)) for name in COLUMNS} for key, one in found.items()
    }
    # These are numbers of our own: validating a hundred thousand of them would take longer than reading them.
    bands = {key: Band.model_construct(**lists) for key, lists in columns.items()}
    return GroupMetrics.model_construct(bands=bands).model_dump_json().encode()


def _listed(values: Array) -> list[float | None]:
    listed: list[float | None] = values.tolist()
    for index in np.flatnonzero(~np.isfinite(values)):
        listed[index] = None
    return listed


def csv(sessions: sessionmaker[Session], asked: Wanted, max_points: int | None) -> Iterator[bytes]:
    """Yield CSV, a row for each metric and step, metric by metric; empty where something is not defined."""
    yield (",".join(["key", "step", *COLUMNS[1:]]) + "\n").encode()
    for extent in asked.extents:
        for found in _pieces(sessions, asked.of(extent), max_points):
            columns = [_listed(getattr(found, name)) for name in COLUMNS]
            yield "".join(_row(extent.key, cells) for cells in zip(*columns, strict=True)).encode()


def _row(key: str, cells: Iterable[float | None]) -> str:
    return ",".join([key, *("" if cell is None else str(cell) for cell in cells)]) + "\n"


def _pieces(sessions: sessionmaker[Session], asked: Wanted, max_points: int | None) -> Iterator[Bands]:
    """Yield one metric's bands, whole in windows, or thinned at once. Each is read in a session of its own."""
    if max_points is not None:
        with reading(sessions) as session:
            found = read(session, asked, max_points)
        yield from found.values()
        return
    for limits in asked.windows():
        with reading(sessions) as session:
            found = _window(session, asked, limits)
        yield from found.values()
