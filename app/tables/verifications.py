"""Verifications of the blob store: each re-hashed every stored file, or is about to."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, BigId, PlainDocument, now


class Verification(Base):
    """One run through the blob store, with its progress while it goes on and its report afterwards."""

    __tablename__ = "verifications"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    quick: Mapped[bool]
    """Whether it looked at presence and size only."""
    total_blobs: Mapped[int]
    total_bytes: Mapped[int] = mapped_column(BigInteger)
    checked_blobs: Mapped[int] = mapped_column(default=0)
    checked_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    damaged: Mapped[list[dict[str, Any]]] = mapped_column(PlainDocument, default=list)
    """`DamagedBlob`s."""
    healed: Mapped[list[dict[str, Any]]] = mapped_column(PlainDocument, default=list)
    """`DamagedBlob`s that are good again."""
    problem: Mapped[str | None]
    """Why it did not get to its end."""
    started_at: Mapped[datetime] = mapped_column(default=now)
    heard_at: Mapped[datetime] = mapped_column(default=now)
    """When it last made progress: one that is silent for long died with its process."""
    ended_at: Mapped[datetime | None]
