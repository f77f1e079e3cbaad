"""Blocks: many steps of one key of one attempt, so that a chart of one key reads no other key's bytes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import delete, func, insert, select, tuple_
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
    return np.arange(first, last + 1, max(1, (last - first) // max(1, rows - 1)), dtype=np.int64)


def merge(session: Session, attempt_id: int, job_id: int, batches: Sequence[Batch]) -> None:
    """Put batches, oldest first, into blocks. The last block of each key is filled before a new one is begun."""
    fresh = {
        key: concatenate([batch.columns[key] for batch in batches if key in batch.columns])
        for key in sorted({key for batch in batches for key in batch.columns})
    }
    fresh = {key: series for key, series in fresh.items() if len(series)}
    open_blocks = _last_blocks(session, attempt_id)
    old: list[tuple[str, int]] = []
    rows: list[dict[str, Any]] = []
    for key, series in fresh.items():
        grown = series
        if key in open_blocks:
            taken, grown = _extend(session, attempt_id, key, open_blocks[key], series)
            old += taken
        rows += _rows(attempt_id, job_id, key, grown)
    if old:
        place = tuple_(MetricBlock.key, MetricBlock.first_step)
        condition = MetricBlock.attempt_id == attempt_id, place.in_(old)
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


def _extend(
    session: Session, attempt_id: int, key: str, last_block: tuple[int, int, int], series: Series
) -> tuple[list[tuple[str, int]], Series]:
    """Return which blocks give way, and their values joined with the new ones.

    Batches arrive in order, so that is the last block while it has room, or none. Should one come late, all blocks it
    overlaps are taken, so that blocks never overlap each other.
    """
    first, last, rows = last_block
    late = int(series.steps[0]) <= last
    if not late and rows >= BLOCK_ROWS:
        return [], series
    condition = MetricBlock.last_step >= int(series.steps[0]) if late else MetricBlock.first_step == first
    found = session.execute(
        select(MetricBlock.first_step, MetricBlock.last_step, MetricBlock.rows, MetricBlock.steps, MetricBlock.values)
        .where(MetricBlock.attempt_id == attempt_id, MetricBlock.key == key, condition)
        .order_by(MetricBlock.first_step)
    ).all()
    parts = [block_series(*row) for row in found]
    return [(key, row.first_step) for row in found], concatenate([*parts, series])


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
