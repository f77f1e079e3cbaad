"""Immutable versions of datasets."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, BigId, PlainDocument, now


class Dataset(Base):
    """One version of a dataset: a tar of its systems in the blob store, and what was found in it."""

    __tablename__ = "datasets"
    # Ids stand in addresses: SQLite would give that of a deleted row to the next.
    __table_args__ = (UniqueConstraint("name", "version"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    version: Mapped[int]
    engine: Mapped[str] = mapped_column(String(32))
    digest: Mapped[str] = mapped_column(String(64), index=True)
    blob_sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    source: Mapped[str]
    summary: Mapped[dict[str, Any]] = mapped_column(PlainDocument)
    warnings: Mapped[list[str]] = mapped_column(PlainDocument, default=list)
    created_at: Mapped[datetime] = mapped_column(default=now)


class DatasetName(Base):
    """A name of datasets, with the highest version number that was ever given under it.

    Kept when versions are deleted: `copper@3`, once said, never comes to mean other data.
    """

    __tablename__ = "dataset_names"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    last_version: Mapped[int]
