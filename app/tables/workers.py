"""Worker processes that have introduced themselves."""

from datetime import datetime
from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, Document, now
from app.wire.worker import PROTOCOL_VERSION


class Worker(Base):
    """A worker process: what it can do and when it was last heard of."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    host: Mapped[str] = mapped_column(String(255))
    protocol: Mapped[int] = mapped_column(default=PROTOCOL_VERSION)
    """What it speaks. Kept, for a worker does not say hello again when the server is upgraded under it."""
    engines: Mapped[dict[str, str]] = mapped_column(Document)
    versions: Mapped[dict[str, str]] = mapped_column(Document, default=dict)
    gpus: Mapped[list[dict[str, Any]]] = mapped_column(Document, default=list)
    slots: Mapped[int]
    busy_slots: Mapped[int] = mapped_column(default=0)
    drain: Mapped[bool] = mapped_column(default=False)
    first_seen_at: Mapped[datetime] = mapped_column(default=now)
    last_seen_at: Mapped[datetime] = mapped_column(default=now)
    stopped_at: Mapped[datetime | None]
    """When it said that it has stopped. None: it lives, or nobody knows what became of it."""
