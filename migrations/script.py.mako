"""${message}.

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}

Before you commit this:
- Read what autogenerate wrote: it misses renames (it writes a drop and an add, which loses the data).
- A new column that is not nullable needs a `server_default` here, or the migration fails on a database with rows.
- Old code runs until every process is replaced: add in one release, use in the next, drop in the one after.
- On PostgreSQL a long ALTER blocks the API: `postgresql_concurrently` for indexes on big tables, backfill in batches.
- The tests run it on SQLite and PostgreSQL and check that tables and code agree.
- Delete this list.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision: str = ${repr(up_revision)}
down_revision: str | Sequence[str] | None = ${repr(down_revision)}
branch_labels: str | Sequence[str] | None = ${repr(branch_labels)}
depends_on: str | Sequence[str] | None = ${repr(depends_on)}


def upgrade() -> None:
    """Go to this schema."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Go back to the schema before."""
    ${downgrades if downgrades else "pass"}
