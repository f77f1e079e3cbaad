"""A running Cairn on one machine: the data directory is locked, the database migrated, the parts kept alive."""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import httpx

from app.settings import Settings
from app.up.keeper import Keeper, Say
from app.up.services import CannotStart, Plan, make_parts

EARLIER_PARTS_S = 90.0
"""How long the parts of a killed `cairn up` may take to stop: a worker writes its checkpoint."""


class House:
    """The parts of a running Cairn, from `opened` on."""

    def __init__(self, plan: Plan, keeper: Keeper, token: str) -> None:
        self.plan = plan
        self.keeper = keeper
        self.token = token

    def login_link(self) -> str:
        """Return a fresh link that signs one browser in, once."""
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = httpx.post(f"{self.plan.url}/api/v1/login-links", headers=headers, timeout=30, trust_env=False)
        return str(answer.raise_for_status().json()["url"])


@contextmanager
def opened(plan: Plan, say: Say) -> Iterator[House]:
    """Start everything, yield when it answers, and stop everything at the end, whatever happens.

    Raises:
        CannotStart: with the reason in words.
        Hopeless: a part ends again and again before it gives a sign of life.
    """
    data_dir = plan.settings.data_dir
    with ExitStack() as stack:
        make_data_dir(data_dir)
        stack.enter_context(locked(data_dir, plan.url))
        parts_lock = stack.enter_context(earlier_parts_gone(data_dir, say))
        refuse_taken_port(plan.settings.host, plan.settings.port)
        token = prepare_database(plan.settings)
        keeper = Keeper(make_parts(plan, token), say, inherit=[parts_lock])
        stack.callback(keeper.stop)
        keeper.start()
        stack.enter_context(announced(data_dir, plan.url))
        yield House(plan, keeper, token)


def make_data_dir(path: Path) -> None:
    """Make the data directory and those that `up` writes to."""
    try:
        for directory in (path, path / "run", path / "logs"):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CannotStart(
            f"The data directory {path} cannot be made: {error.strerror}.", "Choose another one with --data-dir."
        ) from error
    if not os.access(path, os.W_OK):
        raise CannotStart(f"The data directory {path} is not writable.", "Choose another one with --data-dir.")


@contextmanager
def locked(data_dir: Path, url: str) -> Iterator[None]:
    """Hold the data directory: no second `cairn up` on it."""
    with (data_dir / "run" / "up.lock").open("a+") as file:
        if not _try_lock(file):
            file.seek(0)
            raise CannotStart(
                f"Cairn already runs on {data_dir} ({file.read().strip() or 'just starting'}).",
                "Use that one, or give this one its own --data-dir and --port.",
            )
        file.truncate(0)
        file.write(f"process {os.getpid()}, {url}\n")
        file.flush()
        yield
        file.truncate(0)


@contextmanager
def earlier_parts_gone(data_dir: Path, say: Say) -> Iterator[int]:
    """Wait until no part of an earlier `cairn up` is left; yield the descriptor that this one's parts inherit.

    Every part holds the lock for as long as it lives: two Redis on one directory would spoil each other's file.
    """
    with (data_dir / "run" / "parts.lock").open("a") as file:
        deadline = time.monotonic() + EARLIER_PARTS_S
        waiting = False
        while not _try_lock(file):
            if not waiting:
                say("up", "waiting for the parts of an earlier run to stop")
                waiting = True
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"Parts of an earlier run on {data_dir} do not stop.",
                    f"`fuser -v {file.name}` shows them; end them, then try again.",
                )
            time.sleep(0.2)
        yield file.fileno()


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def refuse_taken_port(host: str, port: int) -> None:
    """Find out that a port is taken before the API does, and say by whom if it is a Cairn."""
    try:
        bound_port(host, port)
    except OSError as error:
        raise CannotStart(
            _port_problem(host, port, error), "Choose another with --port; --port 0 takes a free one."
        ) from error


def bound_port(host: str, port: int) -> int:
    """Bind to a port for a moment and return it; 0 finds a free one."""
    family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        return int(probe.getsockname()[1])


def _port_problem(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken by another program."
    if error.errno == errno.EACCES:
        return f"Port {port} may not be opened by this user."
    return f"{host} port {port} cannot be opened: {error.strerror}."


def prepare_database(settings: Settings) -> str:
    """Migrate, make the first tokens, and return the user's."""
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.orm import sessionmaker

    from app.db import make_engine, transaction
    from app.keys import ensure_first_tokens, token_file
    from migrations import migrate

    url = settings.effective_database_url
    try:
        migrate(url)
        engine = make_engine(url)
        with transaction(sessionmaker(engine)) as session:
            ensure_first_tokens(session, settings)
        engine.dispose()
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise CannotStart(f"The database cannot be prepared: {reason}.", "`cairn doctor` looks closer.") from error
    return token_file(settings, "user").read_text().strip()


@contextmanager
def announced(data_dir: Path, url: str) -> Iterator[None]:
    """Let the client on this machine find the server, as long as it runs."""
    path = data_dir / "run" / "url"
    path.write_text(url + "\n")
    yield
    path.unlink(missing_ok=True)
