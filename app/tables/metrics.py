"""Metrics in columns: chunks as they arrive, blocks once they are merged."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, Document, now


class MetricChunk(Base):
    """One batch of one attempt: an Arrow IPC stream of many steps and all keys. (attempt, seq) arrives once."""

    __tablename__ = "metric_chunks"
    __table_args__ = (Index("ix_metric_chunks_job_id_first_step", "job_id", "first_step"),)

    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    first_step: Mapped[int] = mapped_column(BigInteger)
    last_step: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int]
    keys: Mapped[list[str]] = mapped_column(Document)
    merged: Mapped[bool] = mapped_column(default=False)
    """Whether its values also stand in blocks; its data is then empty."""
    data: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=now)


class MetricBlock(Base):
    """Many steps of one key of one attempt: little-endian int64 steps and float64 values.

    Keys are apart: a chart of one reads no other key's bytes.
    """

    __tablename__ = "metric_blocks"

    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    first_step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_step: Mapped[int] = mapped_column(BigInteger)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    rows: Mapped[int]
    steps: Mapped[bytes] = mapped_column(LargeBinary)
    values: Mapped[bytes] = mapped_column(LargeBinary)
