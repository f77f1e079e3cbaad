"""Metrics going out: attempts stitched into one history, per key or as rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from sqlalchemy import ColumnElement, Integer, cast, func, select
from sqlalchemy.orm import Session

from app.jobs.metric_blocks import FAR, OUTLINE_EVERY, block_series, decode_outline
from app.jobs.metrics import decode
from app.jobs.series import Array, Series, concatenate
from app.tables import Attempt, Job, MetricBlock, MetricChunk
from app.tables.metrics import IS_UNMERGED
from app.wire.metrics import MetricKey

POINTS_PER_POINT = 4
"""Points to choose from for each point of a chart: what MinMaxLTTB looks at itself."""

WINDOW_ROWS = 16_384
"""Rows of a table that are held at a time while it is exported."""


@dataclass(frozen=True)
class Span:
    """How far one attempt counts: its values stand up to `last`, where a later attempt took over."""

    job_id: int
    """The job itself, or a twin that it goes on from."""
    attempt_id: int
    number: int
    start: int
    """Step that it went on from; its own values lie beyond."""
    last: int


def spans(session: Session, job_id: int) -> list[Span]:
    """Return what counts of each attempt, oldest first: from its start step on, the newest attempt wins.

    The history of a job that goes on from a twin begins with that of the twin.
    """
    found: list[Span] = []
    last = FAR
    at: int | None = job_id
    while at is not None:
        attempts = select(Attempt.id, Attempt.number, Attempt.start_step).where(Attempt.job_id == at)
        own = session.execute(attempts.order_by(Attempt.number)).all()
        for attempt_id, number, start_step in reversed(own):
            found.append(Span(at, attempt_id, number, start_step, last))
            last = min(last, start_step)
        twin_id, step = session.execute(select(Job.continues_id, Job.step).where(Job.id == at)).one_or_none() or (
            None,
            0,
        )
        if not own:  # before its first execution, a job stands where it will go on from
            last = min(last, step)
        at = twin_id
    return found[::-1]


def read(
    session: Session,
    job_id: int,
    keys: Sequence[str] | None = None,
    from_step: int | None = None,
    to_step: int | None = None,
    max_points: int | None = None,
) -> dict[str, Series]:
    """Return each key's stitched values in [from_step, to_step]. `keys` may hold patterns (`val/*`); None: all.

    A key that was never measured has an empty series; a pattern that matches nothing has none. With `max_points`, of
    keys with very many values only the outlines are read: still several times more points than that.
    """
    parts: dict[str, list[Series]] = {key: [] for key in matching(session, job_id, keys)}
    for span in spans(session, job_id):
        last = span.last if to_step is None else min(span.last, to_step)
        within = Within(span.attempt_id, from_step, last)
        rough = _rough(session, within, list(parts), max_points) if max_points else []
        for key in rough:
            parts[key] += _outlines(session, within, key)
        for key, series in _blocks(session, within, [key for key in parts if key not in rough]):
            parts[key].append(series)
        for key, series in _waiting(session, within):
            if key in parts:
                parts[key].append(series)
    return {key: concatenate(found) for key, found in parts.items()}


def matching(session: Session, job_id: int, keys: Sequence[str] | None) -> list[str]:
    """Return the keys that a request names, patterns expanded, in order and each once."""
    if keys is not None and not any("*" in key for key in keys):
        return list(dict.fromkeys(keys))
    known = [key.key for key in list_keys(session, job_id)]
    if keys is None:
        return known
    found = [match for key in keys for match in ([k for k in known if fnmatchcase(k, key)] if "*" in key else [key])]
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Within:
    """Steps of an attempt."""

    attempt_id: int
    first: int | None
    last: int

    def of(self, table: type[MetricBlock | MetricChunk]) -> ColumnElement[bool]:
        """Return the condition that a row holds such steps."""
        condition = (table.attempt_id == self.attempt_id) & (table.first_step <= self.last)
        return condition if self.first is None else condition & (table.last_step >= self.first)

    def cut(self, series: Series) -> Series:
        """Return what of a series lies within."""
        return series.between(self.first, self.last)


def _rough(session: Session, within: Within, keys: Sequence[str], max_points: int) -> list[str]:
    """Return the keys whose outlines hold enough points for a chart."""
    enough = max_points * POINTS_PER_POINT * OUTLINE_EVERY
    query = select(MetricBlock.key).where(within.of(MetricBlock), MetricBlock.key.in_(keys)).group_by(MetricBlock.key)
    return list(session.scalars(query.having(func.sum(MetricBlock.rows) >= enough)))


def _outlines(session: Session, within: Within, key: str) -> list[Series]:
    query = select(MetricBlock.outline).where(within.of(MetricBlock), MetricBlock.key == key)
    return [within.cut(decode_outline(data)) for data in session.scalars(query.order_by(MetricBlock.first_step))]


def _blocks(session: Session, within: Within, keys: Sequence[str]) -> Iterator[tuple[str, Series]]:
    """Yield what is merged, in order of steps."""
    query = select(
        MetricBlock.key,
        MetricBlock.first_step,
        MetricBlock.last_step,
        MetricBlock.rows,
        MetricBlock.steps,
        MetricBlock.values,
    ).where(within.of(MetricBlock), MetricBlock.key.in_(keys))
    for key, first, last, rows, steps, values in session.execute(
        query.order_by(MetricBlock.key, MetricBlock.first_step)
    ):
        yield key, within.cut(block_series(first, last, rows, steps, values))


def _waiting(session: Session, within: Within) -> Iterator[tuple[str, Series]]:
    """Yield what is not merged yet, in the order in which it was sent."""
    query = select(MetricChunk.data).where(within.of(MetricChunk), IS_UNMERGED)
    for data in session.scalars(query.order_by(MetricChunk.seq)):
        for key, series in decode(data).columns.items():
            yield key, within.cut(series)


def list_keys(session: Session, job_id: int) -> list[MetricKey]:
    """Return every key with its number of values, first and last step, and newest value."""
    found: dict[str, MetricKey] = {}
    latest = session.scalar(select(Job.latest).where(Job.id == job_id)) or {}
    for span in spans(session, job_id):
        for key, count, first, last in _extents(session, span):
            known = found.get(key)
            found[key] = MetricKey(
                key=key,
                count=count + (known.count if known else 0),
                first_step=min(first, known.first_step) if known else first,
                last_step=last,
                last=latest.get(key),
            )
    return [found[key] for key in sorted(found)]


def _extents(session: Session, span: Span) -> Iterator[tuple[str, int, int, int]]:
    """Yield key, count, first and last step of what counts of an attempt, reading no values."""
    inside = (MetricBlock.attempt_id == span.attempt_id) & (MetricBlock.last_step <= span.last)
    totals: dict[str, list[tuple[int, int, int]]] = {}
    for key, count, first, last in session.execute(
        select(
            MetricBlock.key,
            cast(func.sum(MetricBlock.rows), Integer),
            func.min(MetricBlock.first_step),
            func.max(MetricBlock.last_step),
        )
        .where(inside)
        .group_by(MetricBlock.key)
    ):
        totals.setdefault(key, []).append((count, first, last))
    for key, series in _cut(session, span):
        steps = series.steps
        if len(steps):
            totals.setdefault(key, []).append((len(steps), int(steps[0]), int(steps[-1])))
    for key, parts in totals.items():
        yield key, sum(p[0] for p in parts), min(p[1] for p in parts), max(p[2] for p in parts)


def _cut(session: Session, span: Span) -> Iterator[tuple[str, Series]]:
    """Yield what counts of the blocks that a later attempt cuts in two, and of what is not merged yet."""
    within = Within(span.attempt_id, None, span.last)
    straddling = select(MetricBlock).where(within.of(MetricBlock), MetricBlock.last_step > span.last)
    for block in session.scalars(straddling):
        whole = block_series(block.first_step, block.last_step, block.rows, block.steps, block.values)
        yield block.key, within.cut(whole)
    yield from _waiting(session, within)


def aligned(columns: dict[str, Series]) -> tuple[Array, dict[str, Array], dict[str, Array]]:
    """Return all steps of several series, and each key's values and presence at them (NaN where absent)."""
    steps = np.unique(np.concatenate([series.steps for series in columns.values()] or [np.empty(0, np.int64)]))
    values, present = {}, {}
    for key, series in columns.items():
        at = np.searchsorted(steps, series.steps)
        values[key] = np.full(len(steps), np.nan)
        values[key][at] = series.values
        present[key] = np.zeros(len(steps), bool)
        present[key][at] = True
    return steps, values, present


def windows(
    session: Session, job_id: int, first: int | None, last: int | None, rows: int = WINDOW_ROWS
) -> list[tuple[int, int]]:
    """Return step ranges that cover the history, each of roughly `rows` steps of the key measured most often."""
    keys = list_keys(session, job_id)
    if not keys:
        return []
    start = min(key.first_step for key in keys) if first is None else first
    stop = max(key.last_step for key in keys) if last is None else last
    densest = max(keys, key=lambda key: key.count)
    width = max(1, (densest.last_step - densest.first_step + 1) * rows // max(1, densest.count))
    return [(at, min(at + width - 1, stop)) for at in range(start, stop + 1, width)]
