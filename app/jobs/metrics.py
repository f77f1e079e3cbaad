"""Metrics coming in: batches are checked, kept once, and merged into blocks of one key each."""

import math
import re
from typing import Any, cast

import numpy as np
from sqlalchemy import Table, bindparam, case, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.auth import AttemptIdentity
from app.errors import AppError, TooLarge
from app.jobs.metric_blocks import MERGE_CHUNKS, MERGE_ROWS, merge
from app.jobs.series import Batch, Series
from app.tables import Job, MetricChunk
from app.tables.metrics import IS_UNMERGED

MAX_BATCH_BYTES = 64 << 20
MAX_ROWS = 1_000_000
MAX_KEYS = 2_000
MAX_STEP = 2**53
"""Steps beyond this lose their exactness in every JSON reader."""

_KEY = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.+:-]*(/[A-Za-z0-9_.+:-]+){0,7}$")


class BadMetrics(AppError):
    """A batch that is not what the worker protocol says."""

    status = 422
    code = "bad-metrics"


def load_library() -> None:
    """Load what `decode` needs; the first time, that takes a moment."""
    import pyarrow.ipc  # noqa: F401


def ingest(session: Session, attempt: AttemptIdentity, seq: int, data: bytes) -> bool:
    """Keep one batch of an attempt's metrics; return False, changing nothing, when this `seq` was kept before.

    The caller has made sure (and keeps sure, by a lock on the attempt's row) that the attempt is running. Raises as `decode`.
    """
    batch = decode(data)
    standing = session.execute(_STANDING, {"attempt": attempt.id, "job": attempt.job_id}).one()
    # Trainings that began together would all be merged together, and everybody else would wait.
    most = MERGE_CHUNKS - attempt.id % (MERGE_CHUNKS // 2)
    full = standing.pending + 1 >= most or standing.pending_rows + batch.rows >= MERGE_ROWS
    if not _insert(session, attempt, seq, batch, b"" if full else data):
        return False
    if full:
        merge(session, attempt.id, attempt.job_id, [*_unmerged(session, attempt.id), batch])
    if standing.attempt == attempt.number and seq > standing.newest:
        _note_progress(session, attempt.job_id, standing.latest, batch)
    return True


# The statements of the busiest route are built once: building them takes longer than running them.
_chunks, _jobs = cast("Table", MetricChunk.__table__), cast("Table", Job.__table__)
_waiting = (_chunks.c.attempt_id == bindparam("attempt")) & IS_UNMERGED
_STANDING = select(
    select(func.count()).select_from(_chunks).where(_waiting).scalar_subquery().label("pending"),
    select(func.coalesce(func.sum(_chunks.c.rows), 0)).where(_waiting).scalar_subquery().label("pending_rows"),
    select(func.coalesce(func.max(_chunks.c.seq), -1))
    .where(_chunks.c.attempt_id == bindparam("attempt"))
    .scalar_subquery()
    .label("newest"),
    _jobs.c.attempt,
    _jobs.c.latest,
).where(_jobs.c.id == bindparam("job"))
_INSERT = {
    "sqlite": sqlite.insert(_chunks).on_conflict_do_nothing().returning(_chunks.c.seq),
    "postgresql": postgresql.insert(_chunks).on_conflict_do_nothing().returning(_chunks.c.seq),
}
_NOTE = (
    update(_jobs)
    .where(_jobs.c.id == bindparam("job"))
    .values(
        latest=bindparam("newest"),
        step=case((_jobs.c.step < bindparam("last"), bindparam("last")), else_=_jobs.c.step),
        version=_jobs.c.version + 1,
    )
)


def decode(data: bytes) -> Batch:
    """Return the steps and values of an Arrow IPC stream as `METRICS_MEDIA_TYPE` describes.

    Raises BadMetrics or TooLarge.
    """
    import pyarrow as pa

    if len(data) > MAX_BATCH_BYTES:
        raise TooLarge(f"A batch of metrics has {len(data)} bytes; {MAX_BATCH_BYTES} are accepted.")
    try:
        with pa.ipc.open_stream(data) as reader:
            table = reader.read_all()
            table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise BadMetrics(f"The batch is not a readable Arrow IPC stream: {error}.") from error
    _check_schema(table)
    steps = _values(table.column("step"))
    _check_steps(steps)
    columns = {name: _series(steps, table.column(name)) for name in table.column_names if name != "step"}
    return Batch(steps=steps, columns=columns)


def _check_schema(table: Any) -> None:
    import pyarrow as pa

    names = table.column_names
    if not names or names[0] != "step" or table.schema.field(0).type != pa.int64() or table.column(0).null_count:
        raise BadMetrics("The first column must be `step`, 64-bit integers without nulls.")
    if len(names) != len(set(names)):
        raise BadMetrics("A key stands twice in the batch.")
    if not 0 < table.num_rows <= MAX_ROWS or len(names) > MAX_KEYS:
        raise BadMetrics(f"A batch has 1 to {MAX_ROWS} rows and at most {MAX_KEYS} keys; this one has {table.shape}.")
    for field in list(table.schema)[1:]:
        if field.type != pa.float64():
            raise BadMetrics(f"The column {field.name!r} holds {field.type}, not 64-bit floats.")
        if len(field.name) > 200 or not _KEY.match(field.name):
            raise BadMetrics(
                f"{field.name[:200]!r} is no metric key; they look like `train/rmse_f` or `val/rmse_f/H2O`."
            )


def _check_steps(steps: np.ndarray[Any, Any]) -> None:
    if steps[0] < 0 or steps[-1] > MAX_STEP or (np.diff(steps) <= 0).any():
        raise BadMetrics("The steps of a batch must not be negative and must increase strictly.")


def _series(steps: np.ndarray[Any, Any], column: Any) -> Series:
    """Return the rows of a column that are not null. NaN and infinities are values."""
    if not column.null_count:
        return Series(steps, _values(column))
    present = _values(column.is_valid().cast("uint8")).astype(bool)
    return Series(steps[present], _values(column.drop_null()))


def _values(column: Any) -> np.ndarray[Any, Any]:
    """Return a column without nulls. pyarrow's own `to_numpy` imports pandas where there is one, which takes seconds."""
    return np.from_dlpack(column.combine_chunks())


def _insert(session: Session, attempt: AttemptIdentity, seq: int, batch: Batch, data: bytes) -> bool:
    row = {
        "attempt_id": attempt.id,
        "seq": seq,
        "job_id": attempt.job_id,
        "first_step": int(batch.steps[0]),
        "last_step": int(batch.steps[-1]),
        "rows": batch.rows,
        "merged": not data,
        "data": data,
    }
    return session.scalar(_INSERT[session.get_bind().dialect.name], row) is not None


def _unmerged(session: Session, attempt_id: int) -> list[Batch]:
    """Take the batches that wait to be merged, oldest first, and mark them merged."""
    waiting = (MetricChunk.attempt_id == attempt_id) & IS_UNMERGED
    found = session.scalars(select(MetricChunk.data).where(waiting).order_by(MetricChunk.seq)).all()
    session.execute(
        update(MetricChunk).where(waiting).values(merged=True, data=b"").execution_options(synchronize_session=False)
    )
    return [decode(data) for data in found]


def _note_progress(session: Session, job_id: int, latest: dict[str, Any], batch: Batch) -> None:
    """Let the job show the newest values."""
    last = int(batch.steps[-1])
    values = {key: _shown(float(series.values[-1])) for key, series in batch.columns.items() if len(series.values)}
    session.execute(_NOTE, {"job": job_id, "newest": {**latest, **values}, "last": last})


def _shown(value: float) -> float | None:
    return value if math.isfinite(value) else None
