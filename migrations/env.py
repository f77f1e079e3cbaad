"""How Alembic reaches the database: one transaction, one migrating process at a time, both dialects."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, Engine, event, text

from app.db import make_engine
from app.settings import get_settings
from app.tables import Base
from app.tables.base import Document, UtcDateTime

LOCK = 0x63616972
"""Key of the advisory lock on PostgreSQL ("cair"): other programs on the same server use other keys."""


def render_item(kind: str, item: Any, autogenerate: AutogenContext) -> str | Literal[False]:
    """Write our own column types as plain SQLAlchemy ones: a migration must outlive the code it was made from."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and item is Document:
        autogenerate.imports.add("from sqlalchemy.dialects import postgresql")
        return 'sa.JSON().with_variant(postgresql.JSONB(), "postgresql")'
    return False


@contextmanager
def locked(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction that no other migrating process shares."""
    if engine.dialect.name == "sqlite":
        # Batch mode copies tables and drops the originals: with foreign keys on, the drop would cascade.
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=OFF"))
        with file_lock(engine.url.database), engine.begin() as connection:
            yield connection
        return
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        yield connection


@contextmanager
def file_lock(database: str | None) -> Iterator[None]:
    """Hold a lock on a file beside the SQLite database."""
    assert database, "an in-memory database has no migrations"
    path = Path(database).with_suffix(".migrate.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run() -> None:
    """Apply what is missing."""
    engine = make_engine(context.config.attributes.get("url") or get_settings().effective_database_url)
    try:
        with locked(engine) as connection:
            context.configure(
                connection=connection,
                target_metadata=Base.metadata,
                render_as_batch=True,
                render_item=render_item,
                compare_type=True,
                # SQLite can roll back DDL; Alembic only does not dare to say so by default.
                transactional_ddl=True,
            )
            context.run_migrations()
    finally:
        engine.dispose()


run()
