"""Content-addressed bytes: what the store holds and under which digests."""

from datetime import datetime

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Base, now


class Blob(Base):
    """A stored blob. The bytes live in the blob store under the SHA-256; MD5 is recorded because people paste it."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    md5: Mapped[str] = mapped_column(String(32), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=now)
    damaged_at: Mapped[datetime | None]
    """When its bytes were found missing or changed; they are quarantined, and equal bytes uploaded again heal it."""
