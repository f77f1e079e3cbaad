"""A whole service with the toy engine, in real processes that the tests kill: Redis, API, workers."""

import os
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest
import redis as redis_client

from app.queue import Doorbell
from tests.conftest import _redis_program
from tests.faults.toy.trainer import walk

ROOT = Path(__file__).parents[2]
LEASE_S = 20.0
"""Long enough for a slow machine on which everything else runs too: a lease that ends by mistake is another test's failure.
Where a test is about a lease that runs out, it lets it (`World.let_lease_run_out`).
"""
PATIENCE_S = 120.0

T = TypeVar("T")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make test-faults ARGS=--faults=300`. Known only when this directory is named: by itself the suite runs a short form."""
    parser.addoption(
        "--faults", type=int, help="faults of the random campaign on SQLite; a quarter as many on PostgreSQL"
    )
    parser.addoption("--report", type=Path, help="file to which the campaign's report is appended")
    parser.addoption("--seed", type=int, help="what the campaign's chances come from")


def wait_for(condition: Callable[[], T | None], what: str, patience_s: float = PATIENCE_S) -> T:
    """Return the first true value of `condition`."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"waited {patience_s:.0f} s in vain for {what}")


@dataclass
class WorkerProcess:
    """A worker and where it logs."""

    process: subprocess.Popen[bytes]
    log: Path

    def trainers(self) -> list[psutil.Process]:
        """Return the trainers that live: the forkserver's children."""
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.process.pid).children(recursive=True)
            return [child for child in found if re.match(r"cairn \d+-\d+", child.name())]
        return []

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@dataclass
class World:
    """One service. Everything in it can be killed and started again."""

    data_dir: Path
    redis: "Redis"
    port: int
    http: httpx.Client
    work_dir: Path
    """Of this test's workers."""
    lease_s: float = LEASE_S
    settings: dict[str, str] = field(default_factory=dict)
    """Of all its parts, beside those that every test has."""
    starter: subprocess.Popen[bytes] | None = None
    """Starts APIs: see `toy/api.py`."""
    api: psutil.Process | None = None
    workers: list[WorkerProcess] = field(default_factory=list)
    jobs: list[int] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return (
            os.environ
            | {
                "CAIRN_DATA_DIR": str(self.data_dir),
                "CAIRN_REDIS_URL": self.redis.url,
                "CAIRN_PORT": str(self.port),
                "CAIRN_API_URL": f"http://127.0.0.1:{self.port}",
                "CAIRN_LEASE_S": str(self.lease_s),
                "CAIRN_HEARTBEAT_S": "0.5",
                "CAIRN_RECONCILE_S": "0.3",
                "CAIRN_PRESENCE_S": "0.5",
                "CAIRN_STOP_GRACE_S": "20",
                "CAIRN_FLUSH_S": "30",
                "CAIRN_ENGINES": "toy",
                "CAIRN_WORK_DIR": str(self.work_dir),
            }
            | self.settings
        )

    def launch_api(self) -> None:
        """Start the API's process, and return at once."""
        if self.starter is None:
            with (self.data_dir / "api.log").open("ab") as log:
                command = [sys.executable, "-m", "tests.faults.toy.api"]
                self.starter = subprocess.Popen(
                    command, cwd=ROOT, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
                )
        assert self.starter.stdin is not None
        assert self.starter.stdout is not None
        self.starter.stdin.write(b"\n")
        self.starter.stdin.flush()
        self.api = psutil.Process(int(self.starter.stdout.readline()))

    def start_api(self) -> None:
        self.launch_api()
        wait_for(self.is_up, "the API")
        self.http.headers["Authorization"] = f"Bearer {self.token('user')}"

    def token(self, whose: str) -> str:
        return (self.data_dir / f"{whose}.token").read_text().strip()

    def is_up(self) -> bool:
        assert self.api is not None
        assert not is_gone(self.api), (self.data_dir / "api.log").read_text()
        with suppress(httpx.TransportError):
            return self.http.get("/api/v1/health").is_success
        return False

    def kill_api(self) -> None:
        assert self.api is not None
        self.api.kill()
        self.api.wait()

    def start_worker(self, **settings: str) -> WorkerProcess:
        self.work_dir.mkdir(exist_ok=True)
        log = self.work_dir / f"worker{len(self.workers)}.log"
        with log.open("ab") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.toy.worker"],
                cwd=ROOT,
                env=self.environment | {"CAIRN_WORKER_NAME": log.stem} | settings,
                stdout=sink,
                stderr=sink,
            )
        worker = WorkerProcess(process, log)
        self.workers.append(worker)
        return worker

    def submit(self, seed: int = 7, **config: Any) -> int:
        # One test's job is the next one's twin: each is to run.
        message = {"engine": "toy", "config": config, "seed": seed, "on_existing": "new"}
        answer = self.http.post("/api/v1/jobs", json=message)
        assert answer.status_code == 201, answer.text
        self.jobs.append(int(answer.json()["id"]))
        return self.jobs[-1]

    def job(self, job_id: int) -> dict[str, Any]:
        answer = self.http.get(f"/api/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait_state(self, job_id: int, state: str, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        try:
            return wait_for(lambda: self._in_state(job_id, state), f"job {job_id} to be {state}", patience_s)
        except AssertionError as error:
            logs = "\n".join(f"== {worker.log.name}\n{worker.log.read_text()[-3000:]}" for worker in self.workers)
            raise AssertionError(f"{error}; it is {self.job(job_id)}\n{logs}") from None

    def _in_state(self, job_id: int, state: str) -> dict[str, Any] | None:
        job = self.job(job_id)
        return job if job["state"] == state else None

    def hold(self, **config: Any) -> tuple[int, "Path"]:
        """Submit a job whose first execution waits at step 45, two checkpoints on; return it and its run directory."""
        job = self.submit(**{"steps": 100, "accident": "hold", "accident_at": 45} | config)
        self.wait_step(job, 45)
        wait_for(lambda: len(self.checkpoints(job)) == 2, "two checkpoints")
        return job, self.work_dir / f"{job}-1"

    def wait_step(self, job_id: int, step: int) -> None:
        wait_for(lambda: self.job(job_id)["progress"]["step"] >= step, f"step {step} of job {job_id}")

    def series(self, job_id: int) -> tuple[list[int], list[float]]:
        answer = self.http.get(f"/api/v1/jobs/{job_id}/metrics", params={"keys": "train/loss"})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        return found["steps"]["train/loss"], found["values"]["train/loss"]

    def checkpoints(self, job_id: int) -> list[dict[str, Any]]:
        answer = self.http.get(f"/api/v1/jobs/{job_id}/checkpoints")
        assert answer.status_code == 200, answer.text
        found = answer.json()
        return list(found["items"] if isinstance(found, dict) else found)

    def events(self, job_id: int) -> list[dict[str, Any]]:
        """Return a job's timeline, oldest line first."""
        answer = self.http.get(f"/api/v1/jobs/{job_id}/events")
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    def attempts(self, job_id: int) -> list[tuple[str, int]]:
        """Return state and first step of every execution."""
        return [(attempt["state"], attempt["start_step"]) for attempt in self.job(job_id)["attempts"]]

    def ring(self, job_id: int, attempt: int) -> None:
        doorbell = Doorbell(self.redis.url)
        assert doorbell.ring("toy", job_id, attempt)
        doorbell.close()

    def assert_as_if_undisturbed(self, job_id: int, steps: int, seed: int = 7) -> None:
        """Every step reported once, every value bit for bit that of a run without accidents, and the last state kept."""
        expected, value = [], 0.0
        for step in range(1, steps + 1):
            value = walk(seed, value, step)
            expected.append(value)
        assert self.series(job_id) == (list(range(1, steps + 1)), expected)
        assert max(checkpoint["step"] for checkpoint in self.checkpoints(job_id)) == steps

    def sql(self, statement: str) -> None:
        """Change the database behind the service's back."""
        with closing(sqlite3.connect(self.data_dir / "cairn.db", timeout=60)) as database, database:
            database.execute(statement)

    def let_lease_run_out(self, job_id: int) -> None:
        """Set the clock of a job's lease forward; who holds it must be dead or frozen, or it is renewed."""
        self.sql(f"UPDATE attempts SET lease_expires_at = '2000-01-01 00:00:00.000000' WHERE job_id = {job_id}")

    def clean_up(self) -> None:
        """Kill the workers and end what is left of the test's jobs."""
        for worker in self.workers:
            with suppress(psutil.NoSuchProcess):
                family = worker.family()
                worker.process.kill()
                for process in family:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
            worker.process.wait()
        for job in self.jobs:
            self.http.post(f"/api/v1/jobs/{job}/cancel", params={"now": True})
        self.workers, self.jobs = [], []


@contextmanager
def running_redis() -> Iterator["Redis"]:
    """Start a real Redis that listens on a unix socket only, as `cairn up` starts it."""
    directory = Path("/tmp") / f"cairn-faults-{secrets.token_hex(4)}"  # a socket's path is at most 107 bytes long
    directory.mkdir(mode=0o700)
    redis = Redis(directory)
    redis.start()
    yield redis
    redis.kill()
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def redis() -> Iterator["Redis"]:
    """The broker of the service that the tests share."""
    with running_redis() as redis:
        yield redis


class Redis:
    """A broker whose messages are on the disk as soon as it has them: killed, it has them again unless it `forget`s."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"

    def start(self) -> None:
        """Start it, and wait until it answers: first it reads what it had."""
        options = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.directory)]
        kept = ["--save", "", "--appendonly", "yes", "--appendfsync", "no"]
        self.process = subprocess.Popen([str(_redis_program()), *options, *kept], stdout=subprocess.DEVNULL)
        wait_for(self._answers, "Redis")

    def _answers(self) -> bool:
        with suppress(redis_client.RedisError), redis_client.Redis.from_url(self.url) as connection:
            return bool(connection.ping())
        return False

    def forget(self) -> None:
        """Lose what was in it; it must be dead."""
        for kept in self.directory.glob("append*"):
            shutil.rmtree(kept) if kept.is_dir() else kept.unlink()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.unlink()


@contextmanager
def running_service(
    data_dir: Path, redis: Redis, database: Path, lease_s: float = LEASE_S, **settings: str
) -> Iterator[World]:
    """Start a service on a copy of a database."""
    shutil.copy(database, data_dir / "cairn.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False) as http:
        service = World(data_dir, redis, port, http, data_dir, lease_s, settings)
        service.start_api()
        yield service
        assert service.api is not None
        assert service.starter is not None
        service.api.terminate()
        service.api.wait(PATIENCE_S)
        service.starter.communicate(timeout=PATIENCE_S)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, redis: Redis, sqlite_template: Path) -> Iterator[World]:
    """A service whose API runs."""
    with running_service(tmp_path_factory.mktemp("service"), redis, sqlite_template) as service:
        yield service


@pytest.fixture
def world(service: World, tmp_path: Path) -> Iterator[World]:
    """The service, without workers: each test starts its own."""
    service.work_dir = tmp_path
    yield service
    service.clean_up()


def kill(process: psutil.Process | subprocess.Popen[bytes]) -> None:
    """Kill -9."""
    os.kill(process.pid, signal.SIGKILL)


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
