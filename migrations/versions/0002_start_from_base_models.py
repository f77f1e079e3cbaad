"""Start from base models.

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-20 19:36:28.195269
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go to this schema."""
    op.create_table(
        "base_models",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("engine", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("blob_sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("file_name", sa.String(length=255), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("step", sa.BigInteger(), nullable=True),
        sa.Column("architecture", sa.String(length=120), nullable=True),
        sa.Column("type_map", sa.JSON(), nullable=False),
        sa.Column("branches", sa.JSON(), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=True),
        sa.Column("problem", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["blob_sha256"], ["blobs.sha256"], name=op.f("fk_base_models_blob_sha256_blobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_base_models")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_base_models_name_version")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("base_models", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_base_models_blob_sha256"), ["blob_sha256"], unique=False)
        batch_op.create_index(batch_op.f("ix_base_models_job_id"), ["job_id"], unique=False)

    op.create_table(
        "base_model_names",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_base_model_names")),
    )
    op.create_table(
        "errands",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("engine", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("order", sa.JSON(), nullable=False),
        sa.Column("blob_sha256", sa.String(length=64), nullable=True),
        sa.Column("file_name", sa.String(length=255), nullable=True),
        sa.Column("worker_id", sa.String(length=64), nullable=True),
        sa.Column("token_sha256", sa.String(length=64), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("problem", sa.JSON(), nullable=True),
        sa.Column("rung_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["blob_sha256"], ["blobs.sha256"], name=op.f("fk_errands_blob_sha256_blobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_errands")),
        sa.UniqueConstraint("kind", "key", name=op.f("uq_errands_kind_key")),
    )
    with op.batch_alter_table("errands", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_errands_blob_sha256"), ["blob_sha256"], unique=False)
        batch_op.create_index("ix_errands_state", ["state", "lease_expires_at"], unique=False)

    op.create_table(
        "job_leaves",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("pointer", sa.String(length=500), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("text", sa.String(length=500), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_leaves_job_id_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "pointer", name=op.f("pk_job_leaves")),
    )
    with op.batch_alter_table("job_leaves", schema=None) as batch_op:
        batch_op.create_index("ix_job_leaves_name", ["name", "number"], unique=False)

    with op.batch_alter_table("workers", schema=None) as batch_op:
        # Whoever introduced itself before knows nothing of bases, and would train from scratch instead.
        batch_op.add_column(sa.Column("protocol", sa.Integer(), nullable=False, server_default="1"))

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        # Every job so far started from scratch, which is what an empty start means.
        batch_op.add_column(sa.Column("start", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(
            sa.Column("base_model_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True)
        )
        batch_op.add_column(sa.Column("plan", sa.JSON(), nullable=True))
        batch_op.add_column(
            sa.Column("inventory_errand_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True)
        )
        batch_op.add_column(sa.Column("start_step", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.create_index(batch_op.f("ix_jobs_base_model_id"), ["base_model_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_jobs_inventory_errand_id"), ["inventory_errand_id"], unique=False)
        batch_op.create_foreign_key(
            batch_op.f("fk_jobs_inventory_errand_id_errands"), "errands", ["inventory_errand_id"], ["id"]
        )
        batch_op.create_foreign_key(
            batch_op.f("fk_jobs_base_model_id_base_models"), "base_models", ["base_model_id"], ["id"]
        )
        batch_op.drop_column("start_mode")

    _list_leaves()


def _list_leaves() -> None:
    """Fill `job_leaves` for the jobs there are: what new jobs get when they are submitted."""
    jobs = sa.table("jobs", sa.column("id"), sa.column("resolved", sa.JSON), sa.column("origins", sa.JSON))
    columns = ("job_id", "pointer", "name", "origin", "number", "text")
    leaves = sa.table("job_leaves", *(sa.column(name) for name in columns))
    connection = op.get_bind()
    # A few at a time: a config and its origins are some hundred kilobytes.
    newest = 0
    while found := connection.execute(sa.select(jobs).where(jobs.c.id > newest).order_by(jobs.c.id).limit(100)).all():
        rows = [row for job in found for row in _rows(*job)]
        if rows:
            connection.execute(sa.insert(leaves), rows)
        newest = found[-1].id


def _rows(job_id: int, resolved: Any, origins: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for pointer, value in _leaves(resolved):
        name = pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
        if pointer in origins and len(pointer) <= 500 and len(name) <= 200:
            yield {
                "job_id": job_id,
                "pointer": pointer,
                "name": name,
                "origin": origins[pointer]["origin"],
                "number": float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None,
                "text": json.dumps(value, ensure_ascii=False, sort_keys=True)[:500],
            }


def _leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield pointer and value of every leaf: what is neither an object with members nor a list with an object in it."""
    if isinstance(value, dict) and value:
        members = list(value.items())
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        members = [(str(index), item) for index, item in enumerate(value)]
    else:
        yield at, value
        return
    for key, member in members:
        yield from _leaves(member, at + "/" + key.replace("~", "~0").replace("/", "~1"))


def downgrade() -> None:
    """Go back to the schema before."""
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.drop_column("protocol")

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("start_mode", sa.VARCHAR(length=16), nullable=False, server_default="scratch"))
        batch_op.drop_constraint(batch_op.f("fk_jobs_base_model_id_base_models"), type_="foreignkey")
        batch_op.drop_constraint(batch_op.f("fk_jobs_inventory_errand_id_errands"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_jobs_inventory_errand_id"))
        batch_op.drop_index(batch_op.f("ix_jobs_base_model_id"))
        batch_op.drop_column("start_step")
        batch_op.drop_column("inventory_errand_id")
        batch_op.drop_column("plan")
        batch_op.drop_column("base_model_id")
        batch_op.drop_column("start")

    with op.batch_alter_table("job_leaves", schema=None) as batch_op:
        batch_op.drop_index("ix_job_leaves_name")

    op.drop_table("job_leaves")
    with op.batch_alter_table("errands", schema=None) as batch_op:
        batch_op.drop_index("ix_errands_state")
        batch_op.drop_index(batch_op.f("ix_errands_blob_sha256"))

    op.drop_table("errands")
    op.drop_table("base_model_names")
    with op.batch_alter_table("base_models", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_base_models_job_id"))
        batch_op.drop_index(batch_op.f("ix_base_models_blob_sha256"))

    op.drop_table("base_models")
