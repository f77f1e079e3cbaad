"""Let workers say that they have stopped.

Revision ID: 0007
Revises: 0006
Create Date: 2026-11-26 19:58:00.000000
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | Sequence[str] | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go to this schema."""
    op.add_column("workers", sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Go back to the schema before."""
    op.drop_column("workers", "stopped_at")
