"""Errands: small pieces of work that need an engine's library, done by a worker for the control plane."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, deferred, mapped_column

from app.tables.base import Base, BigId, PlainDocument, now


class Errand(Base):
    """An errand. `state` is waiting, taken, done or refused. The key is a digest of all its result depends on."""

    __tablename__ = "errands"
    __table_args__ = (UniqueConstraint("kind", "key"), Index("ix_errands_state", "state", "lease_expires_at"))

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    key: Mapped[str] = mapped_column(String(64))
    engine: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16), default="waiting")
    order: Mapped[dict[str, Any]] = mapped_column(PlainDocument, default=dict)
    blob_sha256: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    file_name: Mapped[str | None] = mapped_column(String(255))
    worker_id: Mapped[str | None] = mapped_column(String(64))
    token_sha256: Mapped[str | None] = mapped_column(String(64))
    lease_expires_at: Mapped[datetime | None]
    tries: Mapped[int] = mapped_column(default=0)
    """How often it was taken. One that kills its workers is refused in the end."""
    result: Mapped[dict[str, Any] | None] = deferred(mapped_column(PlainDocument))
    problem: Mapped[dict[str, Any] | None] = mapped_column(PlainDocument)
    rung_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    ended_at: Mapped[datetime | None]
