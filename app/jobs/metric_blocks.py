"""Blocks: many steps of one key of one attempt, so that a chart of one key reads no other key's bytes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, delete, func, insert, or_, select, tuple_
from sqlalchemy.orm import Session

from app.jobs.downsampling import outline
from app.jobs.series import Array, Batch, Series, concatenate
from app.tables import MetricBlock

BLOCK_ROWS = 32_768
"""Values of a full block: a quarter of a megabyte, 31 blocks for a million steps."""

MERGE_ROWS = 8_192
"""Rows that wait before they are merged: a block is rewritten a few times until it is full."""

OUTLINE_EVERY = 64
"""Values that one point of an outline stands for: each block carries the extremes of its stretches of twice as many."""

FAR = 2**62
"""Beyond every step."""

MERGE_CHUNKS = 64
"""Batches that wait at most, so that readers decode few of them."""


def encode_steps(steps: Array) -> bytes:
    """Return the bytes of a block's steps; none when first, last and number say it all."""
    if len(steps) < 3 or (np.diff(steps) == steps[1] - steps[0]).all():
        return b""
    return bytes(steps.astype("<i8").tobytes())


def decode_steps(first: int, last: int, rows: int, data: bytes) -> Array:
    """Return a block's steps, int64 of shape (rows,)."""
    if data:
        return np.frombuffer(data, "<i8")
    # Counted, not from first to last: np.arange works its length out in floats, which lose a step near 2**53.
    return first + np.arange(rows, dtype=np.int64) * ((last - first) // max(1, rows - 1))


def merge(session: Session, attempt_id: int, job_id: int, batches: Sequence[Batch]) -> None:
    """Put batches, oldest first, into blocks. The last block of each key is filled before a new one is begun."""
    fresh = {
        key: concatenate([batch.columns[key] for batch in batches if key in batch.columns])
        for key in sorted({key for batch in batches for key in batch.columns})
    }
    fresh = {key: series for key, series in fresh.items() if len(series)}
    old = _giving_way(session, attempt_id, fresh)
    rows = [
        row
        for key, series in fresh.items()
        for row in _rows(attempt_id, job_id, key, concatenate([*(part for _, part in old.get(key, [])), series]))
    ]
    gone = [(key, first_step) for key, parts in old.items() for first_step, _ in parts]
    if gone:
        place = tuple_(MetricBlock.key, MetricBlock.first_step)
        condition = MetricBlock.attempt_id == attempt_id, place.in_(gone)
        session.execute(delete(MetricBlock).where(*condition).execution_options(synchronize_session=False))
    if rows:
        session.execute(insert(MetricBlock), rows)


def _last_blocks(session: Session, attempt_id: int) -> dict[str, tuple[int, int, int]]:
    """Return first step, last step and rows of every key's last block."""
    newest = (
        select(MetricBlock.key, func.max(MetricBlock.first_step).label("first_step"))
        .where(MetricBlock.attempt_id == attempt_id)
        .group_by(MetricBlock.key)
        .subquery()
    )
    query = select(MetricBlock.key, MetricBlock.first_step, MetricBlock.last_step, MetricBlock.rows).join(
        newest,
        (MetricBlock.attempt_id == attempt_id)
        & (MetricBlock.key == newest.c.key)
        & (MetricBlock.first_step == newest.c.first_step),
    )
    return {key: (first, last, rows) for key, first, last, rows in session.execute(query)}


def _giving_way(session: Session, attempt_id: int, fresh: dict[str, Series]) -> dict[str, list[tuple[int, Series]]]:
    """Return, by key, the blocks that are written anew together with fresh values: first steps and contents, in order.

    Batches arrive in order, so that is a key's last block while it has room, or none. Should one come late, all blocks
    it overlaps are taken, so that blocks never overlap each other.
    """
    open_blocks: list[tuple[str, int]] = []
    overlapped: list[ColumnElement[bool]] = []
    for key, (first, last, rows) in _last_blocks(session, attempt_id).items():
        start = int(fresh[key].steps[0]) if key in fresh else FAR
        if start <= last:
            overlapped.append((MetricBlock.key == key) & (MetricBlock.last_step >= start))
        elif key in fresh and rows < BLOCK_ROWS:
            open_blocks.append((key, first))
    if not open_blocks and not overlapped:
        return {}
    columns = MetricBlock.first_step, MetricBlock.last_step, MetricBlock.rows, MetricBlock.steps, MetricBlock.values
    place = tuple_(MetricBlock.key, MetricBlock.first_step).in_(open_blocks)
    query = select(MetricBlock.key, *columns).where(MetricBlock.attempt_id == attempt_id, or_(place, *overlapped))
    found: dict[str, list[tuple[int, Series]]] = {}
    for key, first, last, rows, steps, values in session.execute(
        query.order_by(MetricBlock.key, MetricBlock.first_step)
    ):
        found.setdefault(key, []).append((first, block_series(first, last, rows, steps, values)))
    return found


def block_series(first: int, last: int, rows: int, steps: bytes, values: bytes) -> Series:
    """Return the series that a block's columns hold."""
    return Series(decode_steps(first, last, rows, steps), np.frombuffer(values, "<f8"))


def encode_outline(series: Series) -> bytes:
    """Return few points that show a block's shape: their steps, int64, then their values, float64."""
    few = outline(series, len(series) // OUTLINE_EVERY)
    return bytes(few.steps.astype("<i8").tobytes() + few.values.astype("<f8").tobytes())


def decode_outline(data: bytes) -> Series:
    """Return the points of an outline."""
    half = len(data) // 2
    return Series(np.frombuffer(data[:half], "<i8"), np.frombuffer(data[half:], "<f8"))


def _rows(attempt_id: int, job_id: int, key: str, series: Series) -> Iterator[dict[str, Any]]:
    for start in range(0, len(series), BLOCK_ROWS):
        part = Series(series.steps[start : start + BLOCK_ROWS], series.values[start : start + BLOCK_ROWS])
        yield {
            "attempt_id": attempt_id,
            "job_id": job_id,
            "key": key,
            "first_step": int(part.steps[0]),
            "last_step": int(part.steps[-1]),
            "rows": len(part),
            "outline": encode_outline(part),
            "steps": encode_steps(part.steps),
            "values": part.values.astype("<f8").tobytes(),
        }
