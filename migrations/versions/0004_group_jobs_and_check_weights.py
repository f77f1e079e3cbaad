"""Group jobs and check weights.

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-20 22:44:14.092743
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | Sequence[str] | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go to this schema."""
    op.create_table(
        "groups",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("engine", sa.String(length=32), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_groups")),
    )
    op.create_table(
        "job_files",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("media_type", sa.String(length=120), nullable=False),
        sa.Column("blob_sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["blob_sha256"], ["blobs.sha256"], name=op.f("fk_job_files_blob_sha256_blobs")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_files_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_job_files")),
    )
    with op.batch_alter_table("job_files", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_job_files_blob_sha256"), ["blob_sha256"], unique=False)

    op.create_table(
        "job_models",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("file_name", sa.String(length=255), nullable=False),
        sa.Column("blob_sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["blob_sha256"], ["blobs.sha256"], name=op.f("fk_job_models_blob_sha256_blobs")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_models_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "ordinal", name=op.f("pk_job_models")),
    )
    with op.batch_alter_table("job_models", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_job_models_blob_sha256"), ["blob_sha256"], unique=False)

    op.create_table(
        "dataset_names",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_dataset_names")),
    )
    op.execute("INSERT INTO dataset_names (name, last_version) SELECT name, max(version) FROM datasets GROUP BY name")
    if op.get_bind().dialect.name == "sqlite":
        # Ids stand in addresses: without this SQLite gives that of a deleted row to the next.
        with op.batch_alter_table(
            "datasets", schema=None, recreate="always", table_kwargs={"sqlite_autoincrement": True}
        ):
            pass
    op.create_table(
        "verifications",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("quick", sa.Boolean(), nullable=False),
        sa.Column("total_blobs", sa.Integer(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("checked_blobs", sa.Integer(), nullable=False),
        sa.Column("checked_bytes", sa.BigInteger(), nullable=False),
        sa.Column("damaged", sa.JSON(), nullable=False),
        sa.Column("healed", sa.JSON(), nullable=False),
        sa.Column("problem", sa.String(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verifications")),
    )
    with op.batch_alter_table("blobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("damaged_at", sa.DateTime(timezone=True), nullable=True))

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("group_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True))
        batch_op.add_column(sa.Column("replica", sa.Integer(), nullable=True))
        batch_op.add_column(
            sa.Column("continues_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True)
        )
        batch_op.add_column(sa.Column("weight_check", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("stop_for", sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column("forgiven", sa.Integer(), server_default="0", nullable=False))
        batch_op.create_index(batch_op.f("ix_jobs_continues_id"), ["continues_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_jobs_group_id"), ["group_id"], unique=False)
        batch_op.create_foreign_key(batch_op.f("fk_jobs_group_id_groups"), "groups", ["group_id"], ["id"])
        batch_op.create_foreign_key(batch_op.f("fk_jobs_continues_id_jobs"), "jobs", ["continues_id"], ["id"])


def downgrade() -> None:
    """Go back to the schema before."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_jobs_continues_id_jobs"), type_="foreignkey")
        batch_op.drop_constraint(batch_op.f("fk_jobs_group_id_groups"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_jobs_group_id"))
        batch_op.drop_index(batch_op.f("ix_jobs_continues_id"))
        batch_op.drop_column("forgiven")
        batch_op.drop_column("stop_for")
        batch_op.drop_column("weight_check")
        batch_op.drop_column("continues_id")
        batch_op.drop_column("replica")
        batch_op.drop_column("group_id")

    with op.batch_alter_table("blobs", schema=None) as batch_op:
        batch_op.drop_column("damaged_at")

    op.drop_table("verifications")
    op.drop_table("dataset_names")
    with op.batch_alter_table("job_models", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_models_blob_sha256"))

    op.drop_table("job_models")
    with op.batch_alter_table("job_files", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_files_blob_sha256"))

    op.drop_table("job_files")
    op.drop_table("groups")
