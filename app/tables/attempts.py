"""Attempts: executions of jobs, each with a lease."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, BigId, Document, PlainDocument, now


class Attempt(Base):
    """One execution. Its token is stored hashed and opens nothing once `ended_at` is set."""

    __tablename__ = "attempts"
    __table_args__ = (UniqueConstraint("job_id", "number"), Index("ix_attempts_lease", "state", "lease_expires_at"))

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    """running, then one of completed, failed, cancelled, interrupted, lost."""
    worker_id: Mapped[str] = mapped_column(ForeignKey("workers.id"), index=True)
    worker_name: Mapped[str] = mapped_column(String(120))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    lease_expires_at: Mapped[datetime]
    start_step: Mapped[int] = mapped_column(BigInteger, default=0)
    log_size: Mapped[int] = mapped_column(BigInteger, default=0)
    event_seq: Mapped[int] = mapped_column(default=-1)
    environment: Mapped[dict[str, Any] | None] = mapped_column(PlainDocument)
    cause: Mapped[dict[str, Any] | None] = mapped_column(Document)
    started_at: Mapped[datetime] = mapped_column(default=now)
    ended_at: Mapped[datetime | None]
