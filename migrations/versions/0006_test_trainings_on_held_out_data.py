"""Test trainings on held-out data.

Revision ID: 0006
Revises: 0005
Create Date: 2026-11-26 18:40:00.000000
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | Sequence[str] | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go to this schema."""
    op.add_column("jobs", sa.Column("test_on", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Go back to the schema before."""
    op.drop_column("jobs", "test_on")
