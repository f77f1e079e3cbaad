"""Groups: jobs that were submitted as one."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, BigId, now


class Group(Base):
    """Replicas: jobs that differ in nothing but their seeds."""

    __tablename__ = "groups"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    engine: Mapped[str] = mapped_column(String(32))
    seed: Mapped[int]
    """The root from which the root seed of every replica is derived."""
    size: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)
