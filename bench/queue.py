"""A long queue whose broker forgets every message: how long until all jobs are executed, each of them once.

`python -m bench.queue [--database sqlite|postgresql|both] [--jobs N]`. Real API, Redis and Celery workers with the settings
that a service has by itself; the jobs are of the fault tests' toy engine and done as soon as they are claimed.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import redis
import uvicorn
from sqlalchemy import Engine, func, select

import migrations
from app.db import make_engine
from app.tables import Attempt, Job
from app.up.redis import find_binary
from app.wire.doorbell import queue_name
from app.wire.submission import MAX_REPLICAS
from bench.serving import open_database
from bench.storage import line

WORKERS, SLOTS = 2, 4
LOOK_S = 0.2


@dataclass
class Broker:
    """A Redis without a memory, on a unix socket."""

    directory: Path

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"unix://{self.directory / 'redis.sock'}"

    def start(self) -> None:
        """Start it, empty."""
        options = ["--port", "0", "--unixsocket", "redis.sock", "--save", ""]
        binary = find_binary()
        assert binary is not None, "there is no redis-server"
        self.process = subprocess.Popen([str(binary), *options], cwd=self.directory, stdout=subprocess.DEVNULL)
        while not (self.directory / "redis.sock").exists():
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill it, and all that it holds is gone."""
        self.process.kill()
        self.process.wait()
        (self.directory / "redis.sock").unlink()

    def waiting(self) -> int:
        """Return how many messages wait."""
        with redis.Redis.from_url(self.url) as connection:
            return int(connection.llen(queue_name("toy")))


def main() -> None:
    """Run and print one table per database; `--serve` is the API's process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    for kind in ["sqlite", "postgresql"] if options.database == "both" else [options.database]:
        print(f"\n{kind:46}{'measured':>14}{'wanted':>12}{'ratio':>8}")
        measure(kind, options.jobs)


def serve(port: int) -> None:
    """Serve the API with the toy engine."""
    from tests.faults.toy.engine import install

    install()
    from app.main import create_app

    uvicorn.run(create_app(), host="127.0.0.1", port=port, log_level="error", access_log=False)


def measure(kind: str, jobs: int) -> None:
    """Submit all, empty the broker, let workers execute half, kill the broker, and wait for the rest."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(open_database(kind, directory))
        migrations.migrate(url)
        broker = Broker(directory)
        broker.start()
        stack.callback(lambda: broker.kill())
        engine = make_engine(url)
        stack.callback(engine.dispose)
        environment = settings(directory, url, broker)
        stack.enter_context(running(["bench.queue", "--serve", environment["CAIRN_PORT"]], environment))
        began = time.monotonic()
        submit(environment, jobs)
        line(f"{jobs:,} jobs submitted", jobs / (time.monotonic() - began), "1/s")
        assert broker.waiting() >= jobs
        with redis.Redis.from_url(broker.url) as connection:
            connection.flushall()
        emptied = time.monotonic()
        for number in range(WORKERS):
            own = {"CAIRN_WORK_DIR": str(directory / f"work{number}"), "CAIRN_WORKER_NAME": f"worker{number}"}
            stack.enter_context(running(["tests.faults.toy.executor"], environment | own))
        most = wait(engine, broker, 1)
        line("broker emptied: seconds until a job ends", time.monotonic() - emptied, "s", 20)
        most = max(most, wait(engine, broker, jobs // 2))
        broker.kill()
        broker.start()
        killed, done = time.monotonic(), completed(engine)
        most = max(most, wait(engine, broker, done + 2 * WORKERS * SLOTS))
        line("broker killed: seconds until others end", time.monotonic() - killed, "s", 20)
        most = max(most, wait(engine, broker, jobs))
        line("all executed, both losses included", jobs / (time.monotonic() - emptied), "1/s")
        line("messages that waited at most", most, "", 600)
        account(engine, jobs)


def settings(directory: Path, url: str, broker: Broker) -> dict[str, str]:
    """Return the environment of API and workers: addresses, and nothing that would change how they work."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    return os.environ | {
        "CAIRN_DATA_DIR": str(directory),
        "CAIRN_DATABASE_URL": url,
        "CAIRN_REDIS_URL": broker.url,
        "CAIRN_PORT": port,
        "CAIRN_API_URL": f"http://127.0.0.1:{port}",
        "CAIRN_ENGINES": "toy",
        "CAIRN_SLOTS": str(SLOTS),
    }


@contextmanager
def running(module: list[str], environment: dict[str, str]) -> Iterator[None]:
    """Run a module's program."""
    with subprocess.Popen([sys.executable, "-m", *module], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def submit(environment: dict[str, str], jobs: int) -> None:
    """Submit so many jobs, in groups as large as there may be."""
    with httpx.Client(base_url=environment["CAIRN_API_URL"], timeout=600, trust_env=False) as client:
        while True:
            try:
                client.get("/api/v1/health")
                break
            except httpx.TransportError:
                time.sleep(LOOK_S)
        token = (Path(environment["CAIRN_DATA_DIR"]) / "user.token").read_text().strip()
        client.headers["Authorization"] = f"Bearer {token}"
        for first in range(0, jobs, MAX_REPLICAS):
            replicas = min(MAX_REPLICAS, jobs - first)
            message = {"engine": "toy", "config": {"steps": 1}, "replicas": replicas, "on_existing": "new"}
            client.post("/api/v1/jobs", json=message).raise_for_status()


def completed(engine: Engine) -> int:
    """Return how many jobs are done."""
    with engine.connect().execution_options(read_only=True) as connection:
        return int(connection.execute(select(func.count()).where(Job.state == "completed")).scalar_one())


def wait(engine: Engine, broker: Broker, jobs: int) -> int:
    """Wait until so many jobs are done; return how many messages waited at most."""
    most = 0
    while completed(engine) < jobs:
        most = max(most, broker.waiting())
        time.sleep(LOOK_S)
    return most


def account(engine: Engine, jobs: int) -> None:
    """Print how many jobs are lost, and how many were executed more than once: attempts, not what became of them."""
    executions = select(func.count()).select_from(Attempt).group_by(Attempt.job_id)
    with engine.connect().execution_options(read_only=True) as connection:
        found = list(connection.execute(executions).scalars())
    line("jobs lost", jobs - completed(engine), "")
    line("jobs executed more than once", sum(count > 1 for count in found), "")
    assert found == [1] * jobs


if __name__ == "__main__":
    main()
