"""Every leaf of every job's resolved config, to search jobs by value and origin."""

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base


class JobLeaf(Base):
    """One leaf. `name` is its last key, which a search always has."""

    __tablename__ = "job_leaves"
    __table_args__ = (Index("ix_job_leaves_name", "name", "number"),)

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    pointer: Mapped[str] = mapped_column(String(500), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    origin: Mapped[str] = mapped_column(String(16))
    number: Mapped[float | None]
    """Its value, when that is a number."""
    text: Mapped[str] = mapped_column(String(500))
    """Its value as JSON, cut to size."""
