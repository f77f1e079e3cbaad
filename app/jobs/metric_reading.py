"""Metrics going out: attempts stitched into one history, per key or as rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from sqlalchemy import Integer, cast, func, select
from sqlalchemy.orm import Session

from app.jobs.metric_blocks import Array, Series, block_series, concatenate
from app.jobs.metrics import decode
from app.tables import Attempt, Job, MetricBlock, MetricChunk
from app.wire.jobs import MetricKey

FAR = 2**62
"""Beyond every step."""

WINDOW_ROWS = 16_384
"""Rows of a table that are held at a time while it is exported."""


@dataclass(frozen=True)
class Span:
    """How far one attempt counts: its values stand up to `last`, where a later attempt took over."""

    attempt_id: int
    last: int


def spans(session: Session, job_id: int) -> list[Span]:
    """Return what counts of each attempt, oldest first: from its start step on, the newest attempt wins."""
    rows = session.execute(
        select(Attempt.id, Attempt.start_step).where(Attempt.job_id == job_id).order_by(Attempt.number)
    ).all()
    found: list[Span] = []
    last = FAR
    for attempt_id, start_step in reversed(rows):
        found.append(Span(attempt_id, last))
        last = min(last, start_step)
    return found[::-1]


def read(
    session: Session,
    job_id: int,
    keys: Sequence[str] | None = None,
    from_step: int | None = None,
    to_step: int | None = None,
) -> dict[str, Series]:
    """Return each key's stitched values in [from_step, to_step]. `keys` may hold patterns (`val/*`); None: all.

    A key that was never measured has an empty series; a pattern that matches nothing has none.
    """
    parts: dict[str, list[Series]] = {key: [] for key in matching(session, job_id, keys)}
    for span in spans(session, job_id):
        last = span.last if to_step is None else min(span.last, to_step)
        for key, series in _of_attempt(session, span.attempt_id, list(parts), from_step, last):
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


def _of_attempt(
    session: Session, attempt_id: int, keys: Sequence[str], first: int | None, last: int
) -> Iterator[tuple[str, Series]]:
    """Yield an attempt's values of these keys in [first, last]: blocks in order, then what is not merged yet."""
    blocks = select(
        MetricBlock.key,
        MetricBlock.first_step,
        MetricBlock.last_step,
        MetricBlock.rows,
        MetricBlock.steps,
        MetricBlock.values,
    ).where(MetricBlock.attempt_id == attempt_id, MetricBlock.key.in_(keys), MetricBlock.first_step <= last)
    chunks = select(MetricChunk.data).where(
        MetricChunk.attempt_id == attempt_id, ~MetricChunk.merged, MetricChunk.first_step <= last
    )
    if first is not None:
        blocks = blocks.where(MetricBlock.last_step >= first)
        chunks = chunks.where(MetricChunk.last_step >= first)
    for key, start, stop, rows, steps, values in session.execute(
        blocks.order_by(MetricBlock.key, MetricBlock.first_step)
    ):
        yield key, block_series(start, stop, rows, steps, values).between(first, last)
    for data in session.scalars(chunks.order_by(MetricChunk.seq)):
        columns_of = decode(data).columns
        for key in keys:
            if key in columns_of:
                yield key, columns_of[key].between(first, last)


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
        steps = series.between(None, span.last).steps
        if len(steps):
            totals.setdefault(key, []).append((len(steps), int(steps[0]), int(steps[-1])))
    for key, parts in totals.items():
        yield key, sum(p[0] for p in parts), min(p[1] for p in parts), max(p[2] for p in parts)


def _cut(session: Session, span: Span) -> Iterator[tuple[str, Series]]:
    """Yield the blocks that a later attempt cuts in two, and what is not merged yet."""
    straddling = select(MetricBlock).where(
        MetricBlock.attempt_id == span.attempt_id,
        MetricBlock.first_step <= span.last,
        MetricBlock.last_step > span.last,
    )
    for block in session.scalars(straddling):
        yield block.key, block_series(block.first_step, block.last_step, block.rows, block.steps, block.values)
    waiting = select(MetricChunk.data).where(MetricChunk.attempt_id == span.attempt_id, ~MetricChunk.merged)
    for data in session.scalars(waiting.order_by(MetricChunk.seq)):
        yield from decode(data).columns.items()


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
