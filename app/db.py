"""Engine and sessions: one request is one transaction, committed before the response is sent."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any
from weakref import WeakSet

from fastapi import Depends, Request
from sqlalchemy import Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

MAX_WRITERS = 8
"""Requests of either way to write that write at the same time. Well below the 40 threads of the pool."""

MAX_READERS = 16
"""Requests that read at the same time. Each keeps a connection while it waits for a thread, and there are 60."""

READ_ONLY = "25006"
"""What PostgreSQL says when it takes no changes."""

LOCK_S = 30.0
"""Seconds that a transaction waits for SQLite's write lock."""


def make_engine(url: str) -> Engine:
    """Return an engine for SQLite or PostgreSQL (psycopg 3). SQLite: WAL, foreign keys, 30 s busy timeout."""
    if not url.startswith("sqlite"):
        engine = create_engine(_psycopg(url), pool_pre_ping=True, pool_size=20, max_overflow=40)
        event.listen(engine, "handle_error", _call_read_only_operational)
        return engine
    factory = partial(_Connection, turn=threading.Lock())
    arguments = {"timeout": LOCK_S, "check_same_thread": False, "factory": factory}
    engine = create_engine(url, pool_size=20, max_overflow=40, connect_args=arguments)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _psycopg(url: str) -> str:
    scheme, rest = url.split("://", 1)
    return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else url


def _call_read_only_operational(context: ExceptionContext) -> None:
    # A standby, or a database that its provider protects from a full disk. The driver takes it for a mistake of ours;
    # SQLite's says rightly that the database is not as it should be, and who waits for a database does so by that name.
    error = context.original_exception
    if getattr(error, "sqlstate", None) == READ_ONLY:
        raise OperationalError(context.statement, None, error) from error


def _set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    # The driver's own transaction handling would begin late (at the first write) and so let two readers
    # deadlock when both turn into writers; BEGIN is emitted by `_begin_immediate` instead.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Any) -> None:
    if connection.get_execution_options().get("read_only"):
        connection.exec_driver_sql("BEGIN")
    else:
        if not connection.connection.dbapi_connection.take_turn():
            raise OperationalError("BEGIN IMMEDIATE", None, sqlite3.OperationalError("database is locked"))
        connection.exec_driver_sql("BEGIN IMMEDIATE")


class _Connection(sqlite3.Connection):
    """A connection that queues for the write lock with the others of this process, and whose transactions end all reading.

    Left to itself SQLite sleeps up to 100 ms between two looks at the lock, which meanwhile is free for nobody. And it
    keeps to what a query saw that was not read to its end, even after a rollback: an exception whose traceback knows the
    result would leave the next user of the connection in the past, where it finds no new row and may not write.
    """

    def __init__(self, *arguments: Any, turn: threading.Lock, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._turn = turn
        self._has_turn = False
        self._cursors = WeakSet[sqlite3.Cursor]()

    def cursor(self, *arguments: Any) -> Any:
        made = super().cursor(*arguments)
        self._cursors.add(made)
        return made

    def take_turn(self) -> bool:
        """Wait until no other connection of this process writes, and return whether that came about.

        The end of the transaction ends the turn.
        """
        self._has_turn = self._has_turn or self._turn.acquire(timeout=LOCK_S)
        return self._has_turn

    def commit(self) -> None:
        self._stop_reading()
        try:
            super().commit()
        finally:
            self._pass_on()

    def rollback(self) -> None:
        self._stop_reading()
        try:
            super().rollback()
        finally:
            self._pass_on()

    def close(self) -> None:
        self._stop_reading()  # or the transaction would be open as long as somebody knows a result
        super().close()
        self._has_turn, had_turn = False, self._has_turn
        if had_turn:
            self._turn.release()

    def _stop_reading(self) -> None:
        while self._cursors:
            self._cursors.pop().close()

    def _pass_on(self) -> None:
        """End the turn, unless a failed commit has left the transaction open."""
        if self._has_turn and not self.in_transaction:
            self._has_turn = False
            self._turn.release()


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


async def _writers(request: Request) -> AsyncIterator[sessionmaker[Session]]:
    yield request.app.state.sessions


def _read_session(request: Request) -> Iterator[Session]:
    with reading(request.app.state.sessions) as session:
        yield session


# scope="function": with FastAPI's default a dependency's code after `yield` runs when the response has already been
# sent, so a client could read a 201 for a row whose commit then fails.
#
# max_concurrency: a request that waits for a write lock occupies a thread of the pool, and the one that holds the lock
# needs a thread to finish. If all threads could wait, nobody would ever finish; the rest wait here, on the event loop.
#
# A `WriteSession` goes from thread to thread: it is opened in one, used in another, committed in a third, and in between
# it waits until the event loop gets to it, with the lock. Routes that are asked hundreds of times a second take `Writers`
# and do all of it in one thread: `with transaction(sessions) as session`.
WriteSession = Annotated[Session, Depends(_write_session, scope="function", max_concurrency=MAX_WRITERS)]
Writers = Annotated[sessionmaker[Session], Depends(_writers, scope="function", max_concurrency=MAX_WRITERS)]

# A `ReadSession` goes from thread to thread, too, with a connection: with all connections in hands that wait for a thread,
# and all threads waiting for a connection, nobody would get either.
ReadSession = Annotated[Session, Depends(_read_session, scope="function", max_concurrency=MAX_READERS)]
