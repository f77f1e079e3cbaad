"""Metrics in columns: chunks as they arrive, blocks once they are merged."""

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base

IS_UNMERGED = text("NOT metric_chunks.merged")
"""As the index below has it: SQLAlchemy's own `merged = 0` SQLite does not recognise, and reads every batch there is."""


class MetricChunk(Base):
    """One batch of one attempt: an Arrow IPC stream of many steps and all keys. (attempt, seq) arrives once."""

    __tablename__ = "metric_chunks"
    __table_args__ = (
        # Readers and the merge look for what is not merged yet, a handful among very many.
        Index(
            "ix_metric_chunks_unmerged",
            "attempt_id",
            "seq",
            sqlite_where=text("NOT merged"),
            postgresql_where=text("NOT merged"),
        ),
    )

    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    first_step: Mapped[int] = mapped_column(BigInteger)
    last_step: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int]
    merged: Mapped[bool] = mapped_column(default=False)
    """Whether its values stand in blocks; its data is then empty and the row only remembers that it arrived."""
    data: Mapped[bytes] = mapped_column(LargeBinary)


class MetricBlock(Base):
    """Many steps of one key of one attempt, so that a chart of one key reads no other key's bytes.

    Steps are little-endian int64, values little-endian float64.
    """

    __tablename__ = "metric_blocks"

    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    first_step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_step: Mapped[int] = mapped_column(BigInteger)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    rows: Mapped[int]
    outline: Mapped[bytes] = mapped_column(LargeBinary)
    """A sixty-fourth of the points, the extremes among them: int64 steps, then float64 values. For charts of very much."""
    steps: Mapped[bytes] = mapped_column(LargeBinary)
    """Empty when the steps are evenly spaced from the first to the last, as they nearly always are."""
    values: Mapped[bytes] = mapped_column(LargeBinary)
