"""Reproduce jobs.

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-20 20:12:00.000000
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | Sequence[str] | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go to this schema."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("reproduces_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True)
        )
        batch_op.add_column(sa.Column("reproduction", sa.String(length=16), nullable=True))
        batch_op.create_index(batch_op.f("ix_jobs_reproduces_id"), ["reproduces_id"], unique=False)
        batch_op.create_foreign_key(batch_op.f("fk_jobs_reproduces_id_jobs"), "jobs", ["reproduces_id"], ["id"])


def downgrade() -> None:
    """Go back to the schema before."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_jobs_reproduces_id_jobs"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_jobs_reproduces_id"))
        batch_op.drop_column("reproduction")
        batch_op.drop_column("reproduces_id")
