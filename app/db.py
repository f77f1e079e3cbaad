"""Engine and sessions: one request is one transaction, committed before the response is sent."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session, sessionmaker

MAX_WRITERS = 8
"""Requests that write at the same time. Well below the 40 threads of the pool."""


def make_engine(url: str) -> Engine:
    """Return an engine for SQLite or PostgreSQL (psycopg 3). SQLite: WAL, foreign keys, 30 s busy timeout."""
    if not url.startswith("sqlite"):
        return create_engine(_psycopg(url), pool_pre_ping=True, pool_size=20, max_overflow=40)
    engine = create_engine(url, pool_size=20, max_overflow=40, connect_args={"timeout": 30, "check_same_thread": False})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _psycopg(url: str) -> str:
    scheme, rest = url.split("://", 1)
    return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else url


def _set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    # The driver's own transaction handling would begin late (at the first write) and so let two readers
    # deadlock when both turn into writers; BEGIN is emitted by `_begin_immediate` instead.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Any) -> None:
    mode = "" if connection.get_execution_options().get("read_only") else " IMMEDIATE"
    connection.exec_driver_sql(f"BEGIN{mode}")


@contextmanager
def transaction(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """Open a session, commit at the end, roll back on any error. The one place that commits."""
    with sessions() as session:
        try:
            yield session
        except BaseException:
            session.rollback()
            raise
        session.commit()


@contextmanager
def reading(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """Open a session that only reads: it neither takes SQLite's write lock nor commits. Rows stay usable afterwards."""
    with sessions() as session:
        session.connection(execution_options={"read_only": True})
        yield session
        session.expunge_all()  # a rollback would make every row forget what it read
        session.rollback()


def _write_session(request: Request) -> Iterator[Session]:
    with transaction(request.app.state.sessions) as session:
        yield session


def _read_session(request: Request) -> Iterator[Session]:
    with reading(request.app.state.sessions) as session:
        yield session


# scope="function": with FastAPI's default a dependency's code after `yield` runs when the response has already been
# sent, so a client could read a 201 for a row whose commit then fails.
#
# max_concurrency: a request that waits for a write lock occupies a thread of the pool, and the one that holds the lock
# needs a thread to finish. If all threads could wait, nobody would ever finish; the rest wait here, on the event loop.
WriteSession = Annotated[Session, Depends(_write_session, scope="function", max_concurrency=MAX_WRITERS)]
ReadSession = Annotated[Session, Depends(_read_session, scope="function")]
