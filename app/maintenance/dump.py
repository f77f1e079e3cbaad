"""A database as a portable file: one JSON line per row, read in one snapshot, written back in one transaction.

The form knows neither dialect nor the classes in `app.tables`: it takes the tables as they are, so that a database of an
older version can be dumped before it is migrated, and what was dumped on one dialect can be loaded into the other. Each
line is `["table", [values…]]`; before the rows of a table comes `{"table": …, "columns": […], "last_id": …}`.
"""

import base64
import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    DateTime,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    cast,
    func,
    select,
    text,
    type_coerce,
)

from app.errors import AppError

BATCH = 500
REVISIONS = "alembic_version"
_REVISION = text("SELECT version_num FROM alembic_version")

T = TypeVar("T")


class BadDump(AppError):
    """A dump that cannot be loaded here."""

    code = "bad-backup"


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """Yield a connection that sees the database as it is at this moment, whatever is written meanwhile."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        else:
            connection = connection.execution_options(read_only=True)
        # A snapshot begins with the first statement, not with BEGIN.
        connection.execute(_REVISION)
        yield connection


def reflected(connection: Connection) -> MetaData:
    """Return the tables as the database has them."""
    metadata = MetaData()
    metadata.reflect(bind=connection)
    return metadata


def revision(connection: Connection) -> str:
    """Return the version of the schema."""
    return str(connection.execute(_REVISION).scalar_one())


def write(connection: Connection, path: Path, note: Callable[[int], None]) -> int:
    """Write all rows of a snapshot; `note` hears of progress in rows. Returns how many they are."""
    count = 0
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=3) as file:
        for table in reflected(connection).sorted_tables:
            if table.name == REVISIONS:
                continue
            columns = [column.name for column in table.columns]
            head = {"table": table.name, "columns": columns, "last_id": _last_id(connection, table)}
            file.write(json.dumps(head) + "\n")
            for row in _rows(connection, table):
                file.write(json.dumps([_plain(value) for value in row]) + "\n")
                count += 1
                if count % BATCH == 0:
                    note(count)
    note(count)
    return count


def _rows(connection: Connection, table: Table) -> Iterator[Any]:
    # By primary key: a row that refers to another one of its table was made after that.
    query = select(*(_readable(connection, column) for column in table.columns)).order_by(*table.primary_key)
    return iter(connection.execution_options(yield_per=BATCH, stream_results=True).execute(query))


def _readable(connection: Connection, column: Column[Any]) -> Any:
    """Return JSON as the text that it is: parsed and written again it might come out otherwise."""
    if not isinstance(column.type, JSON):
        return column
    return cast(column, Text) if connection.dialect.name == "postgresql" else type_coerce(column, Text)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(value).decode()
    return value


def _last_id(connection: Connection, table: Table) -> int | None:
    """Return the highest id that was ever given: a deleted row's must not come to mean another."""
    keys = list(table.primary_key)
    if len(keys) != 1 or keys[0].name != "id" or not isinstance(keys[0].type, Integer):
        return None
    highest = connection.execute(select(func.max(keys[0]))).scalar() or 0
    if connection.dialect.name == "postgresql":
        given = connection.execute(_GIVEN, {"table": table.name}).scalar()
    elif _autoincrements(connection, table):
        given = connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table.name}).scalar()  # fmt: skip
    else:
        given = None
    return max(int(highest), int(given or 0))


_GIVEN = text("SELECT pg_sequence_last_value(CAST(pg_get_serial_sequence(:table, 'id') AS regclass))")


def _autoincrements(connection: Connection, table: Table) -> bool:
    query = text("SELECT sql FROM sqlite_master WHERE name = :name")
    return "AUTOINCREMENT" in str(connection.execute(query, {"name": table.name}).scalar())


# --- loading ----------------------------------------------------------------------------------------------------------


def load(connection: Connection, path: Path, note: Callable[[int], None]) -> int:
    """Write the rows of a dump into empty tables of the same schema; returns how many they are.

    Raises:
        BadDump: the dump names what the tables do not have.
    """
    if connection.dialect.name == "sqlite":
        connection.execute(text("PRAGMA defer_foreign_keys=ON"))
    tables = reflected(connection).tables
    count = 0
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for head, rows in _sections(json.loads(line) for line in file):
            table = tables.get(head["table"])
            if table is None or set(head["columns"]) != {column.name for column in table.columns}:
                raise BadDump(f"The backup's table {head['table']} is not as this version made it.")
            for batch in _batches(rows, BATCH):
                _insert(connection, table, head["columns"], batch)
                count += len(batch)
                note(count)
            _set_last_id(connection, table, head["last_id"])
    return count


def _sections(lines: Iterator[Any]) -> Iterator[tuple[dict[str, Any], Iterator[list[Any]]]]:
    """Yield the head of every table with its rows, which must be read before the next one is asked for."""
    head: Any = next(lines, None)

    def rows() -> Iterator[list[Any]]:
        nonlocal head
        head = None
        for line in lines:
            if isinstance(line, dict):
                head = line
                return
            yield line

    while head is not None:
        yield head, rows()


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _insert(connection: Connection, table: Table, names: list[str], rows: list[list[Any]]) -> None:
    columns = [table.c[name] for name in names]
    readers = [_reader(connection, column) for column in columns]
    values = {column.name: _writable(connection, column) for column in columns}
    parameters = [
        {f"v_{name}": read(value) for name, read, value in zip(names, readers, row, strict=True)} for row in rows
    ]
    connection.execute(table.insert().values(values), parameters)


def _writable(connection: Connection, column: Column[Any]) -> Any:
    name = f"v_{column.name}"
    if not isinstance(column.type, JSON):
        return bindparam(name, type_=column.type)
    # SQLite keeps the text as it is, but a cast to its type JSON would make a number of it.
    plain = bindparam(name, type_=Text())
    return cast(plain, column.type) if connection.dialect.name == "postgresql" else plain


def _reader(connection: Connection, column: Column[Any]) -> Callable[[Any], Any]:
    if isinstance(column.type, DateTime):
        is_aware = connection.dialect.name == "postgresql"
        return lambda value: value and _time(value, is_aware=is_aware)
    if isinstance(column.type, LargeBinary):
        return lambda value: None if value is None else base64.b64decode(value)
    return lambda value: value


def _time(value: str, *, is_aware: bool) -> datetime:
    moment = datetime.fromisoformat(value)
    return moment if is_aware else moment.replace(tzinfo=None)


def _set_last_id(connection: Connection, table: Table, last_id: int | None) -> None:
    if not last_id:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT setval(pg_get_serial_sequence(:table, 'id'), :last)"), {"table": table.name, "last": last_id})  # fmt: skip
    elif _autoincrements(connection, table):
        values = {"name": table.name, "last": last_id}
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), values)
