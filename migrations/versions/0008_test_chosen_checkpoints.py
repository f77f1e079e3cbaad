"""Test chosen checkpoints of trainings on held-out data.

Revision ID: 0008
Revises: 0007
Create Date: 2026-11-27 01:40:00.000000
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | Sequence[str] | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go to this schema."""
    op.add_column("jobs", sa.Column("test_at", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("jobs", sa.Column("test_every", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("tested_until", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Go back to the schema before."""
    op.drop_column("jobs", "tested_until")
    op.drop_column("jobs", "test_every")
    op.drop_column("jobs", "test_at")
