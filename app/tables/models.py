"""Base models: weights to start from, and what was found in them."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, deferred, mapped_column, relationship

from app.tables.base import Base, BigId, PlainDocument, now
from app.tables.blobs import Blob


class BaseModel(Base):
    """One immutable version of a base model. `state` is inspecting, ready or refused."""

    __tablename__ = "base_models"
    # Ids stand in addresses: SQLite would give that of a deleted row to the next.
    __table_args__ = (UniqueConstraint("name", "version"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    version: Mapped[int]
    engine: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16))
    blob_sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    blob: Mapped[Blob] = relationship(lazy="joined")
    size: Mapped[int] = mapped_column(BigInteger)
    file_name: Mapped[str] = mapped_column(String(255))
    source: Mapped[str]
    job_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    """The job whose checkpoint it is, if it is one. No foreign key: it may outlive the job."""
    step: Mapped[int | None] = mapped_column(BigInteger)
    architecture: Mapped[str | None] = mapped_column(String(120))
    type_map: Mapped[list[str]] = mapped_column(PlainDocument, default=list)
    branches: Mapped[list[str]] = mapped_column(PlainDocument, default=list)
    parameters: Mapped[int | None] = mapped_column(BigInteger)
    facts: Mapped[dict[str, Any] | None] = deferred(mapped_column(PlainDocument))
    """`BaseFacts`: every tensor is in it, so lists do not load it."""
    problem: Mapped[dict[str, Any] | None] = mapped_column(PlainDocument)
    created_at: Mapped[datetime] = mapped_column(default=now)


class BaseModelName(Base):
    """A name of base models, with the highest version number that was ever given under it.

    Kept when versions are deleted: `water@3`, once said, never comes to mean other bytes.
    """

    __tablename__ = "base_model_names"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    last_version: Mapped[int]
