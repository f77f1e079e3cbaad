"""A whole service for the tests that need one: the real `cairn up` in its own process, over each database."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import create_engine, text

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240

ON_SQLITE = pytest.mark.parametrize("service", ["sqlite"], indirect=True, scope="package")
"""What the server does is tested on PostgreSQL, too, with a simulated worker (tests/app/jobs)."""


def tiny_config() -> dict[str, Any]:
    """The example's input, smaller: 40 steps of a few milliseconds each."""
    config = dict(json.loads((ROOT / "examples/copper/input.json").read_text()))
    config["model"]["descriptor"] |= {"rcut": 4.0, "sel": [50], "neuron": [4, 8], "axis_neuron": 4}
    config["model"]["fitting_net"]["neuron"] = [16, 16]
    config["training"] |= {"numb_steps": 40, "disp_freq": 10, "save_freq": 20}
    return config


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Service:
    """A running service and a client that is signed in."""

    url: str
    data_dir: Path
    process: subprocess.Popen[bytes]
    client: httpx.Client

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"CAIRN_URL": self.url, "CAIRN_TOKEN": self.token, "NO_COLOR": "1", "COLUMNS": "120"}

    @property
    def token(self) -> str:
        return (self.data_dir / "user.token").read_text().strip()

    def cli(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli.main", *args],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"cairn {' '.join(args)} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def submit(self, config: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Submit a training that begins anew, also when the same one is here already."""
        answer = self.client.post("/api/v1/jobs", json={"config": config, "on_existing": "new", **options})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def job(self, job_id: int) -> dict[str, Any]:
        answer = self.client.get(f"/api/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait(self, job_id: int, *states: str, step: int = 0, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until the job is in one of the states and has come to `step`; a job that ends otherwise fails the test."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            job = self.job(job_id)
            if job["state"] in states and job["progress"]["step"] >= step:
                return job
            if job["state"] in {"completed", "failed", "cancelled"}:
                break
            time.sleep(0.2)
        log = self.client.get(f"/api/v1/jobs/{job_id}/logs", params={"tail": 40}).text
        raise AssertionError(
            f"job {job_id} is {job['state']} at step {job['progress']['step']}, not {states}: {job['cause']}\n{log}"
        )

    def metrics(self, job_id: int, *keys: str) -> dict[str, Any]:
        answer = self.client.get(f"/api/v1/jobs/{job_id}/metrics", params={"keys": ",".join(keys)} if keys else {})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def worker_processes(self) -> list[psutil.Process]:
        """Return the worker's main process(es): children of `cairn up` that run `worker`."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if child.cmdline()[1:3] == ["-m", "worker"]]


def start_service(data_dir: Path, **settings: str) -> Service:
    port = free_port()
    environment = os.environ | {
        "CAIRN_DATA_DIR": str(data_dir),
        "CAIRN_PORT": str(port),
        "CAIRN_LEASE_S": "6",
        "CAIRN_HEARTBEAT_S": "1",
        "CAIRN_RECONCILE_S": "1",
        "CAIRN_ENGINES": "deepmd",
        "OMP_NUM_THREADS": "1",
        **settings,
    }
    environment.pop("CAIRN_URL", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli.main", "up"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    service = Service(url, data_dir, process, httpx.Client(base_url=url, timeout=60))
    wait_until_ready(service)
    service.client.headers["Authorization"] = f"Bearer {service.token}"
    return service


def wait_until_ready(service: Service) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert service.process.poll() is None, f"cairn up ended with {service.process.returncode}"
        try:
            if service.client.get("/api/v1/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the API did not become ready within a minute")


def stop_service(service: Service) -> None:
    service.client.close()
    service.process.send_signal(signal.SIGTERM)
    try:
        service.process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        service.process.kill()
        raise


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service over each database, shared by all tests: one process runs them."""
    settings = (
        {} if request.param == "sqlite" else {"CAIRN_DATABASE_URL": request.getfixturevalue("fresh_postgresql_url")}
    )
    running = start_service(tmp_path_factory.mktemp(request.param), **settings)
    yield running
    stop_service(running)


@pytest.fixture(scope="package")
def fresh_postgresql_url(postgresql_server: str) -> str:
    """URL of an empty database, not migrated: that is `cairn up`'s own work."""
    name = f"cairn_e2e_{secrets.token_hex(4)}"
    admin = create_engine(
        postgresql_server.replace("postgresql://", "postgresql+psycopg://", 1), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return admin.url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="package")
def copper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's copper data as `deepmd/npy` systems, made by the example's own generator, but fewer frames of each."""
    target = tmp_path_factory.mktemp("copper")
    code = "import generate; generate.FRAMES = dict.fromkeys(generate.FRAMES, 20); generate.main()"
    subprocess.run([sys.executable, "-c", code, str(target)], cwd=ROOT / "examples" / "copper", check=True)
    return target


@pytest.fixture(scope="package")
def dataset(service: Service, copper: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference of that data in the service."""
    archive = tmp_path_factory.mktemp("archive") / "copper.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(copper, arcname=".")
    service.cli("dataset", "add", str(archive), "--name", "copper", "--json")
    return "dataset:copper"


@pytest.fixture(scope="package")
def trained(service: Service, dataset: str) -> dict[str, Any]:
    """A strict training of 40 steps with checkpoints at 20 and 40."""
    return service.wait(service.submit(tiny_config(), name="first", seed=7, determinism="strict")["id"], "completed")
