"""A real server on a real port, and the command run in this process."""

import copy
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from app.cli.main import run
from app.keys import token_file
from app.main import create_app
from app.settings import Settings
from tests.app.conftest import CONFIG
from tests.app.simulated import SimulatedWorker, add_worker
from tests.conftest import NOWHERE


@dataclass
class Server:
    """A running control plane."""

    url: str
    settings: Settings

    def token(self, scope: str = "user") -> str:
        return token_file(self.settings, scope).read_text().strip()

    def client(self, scope: str = "user") -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.token(scope)}"}, timeout=30)


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cairn = Callable[..., Result]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Server]:
    """A server over SQLite that waits for workers only a moment, shared by the tests of a module."""
    data_dir = tmp_path_factory.mktemp("data")
    shutil.copy(sqlite_template, data_dir / "cairn.db")
    settings = Settings(data_dir=data_dir, redis_url=NOWHERE, plan_wait_s=0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(settings, background=False), log_level="error", timeout_graceful_shutdown=1)
        uvicorn_server = uvicorn.Server(config)
        thread = threading.Thread(target=uvicorn_server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not uvicorn_server.started:
            assert thread.is_alive(), "the server ended at its start"
            time.sleep(0.01)
        yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}", settings)
        uvicorn_server.should_exit = True
        thread.join()


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment that names no server, and a home without any settings."""
    for name in ("CAIRN_URL", "CAIRN_TOKEN", "CAIRN_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], nowhere: None) -> Cairn:
    """Run `cairn …` without being told of a server."""

    def cairn(*arguments: object) -> Result:
        monkeypatch.setattr("sys.argv", ["cairn", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run()
        captured = capsys.readouterr()
        return Result(int(ended.value.code or 0), captured.out, captured.err)

    return cairn


@pytest.fixture
def cairn(bare: Cairn, server: Server, monkeypatch: pytest.MonkeyPatch) -> Cairn:
    """Run `cairn …` against the server."""
    monkeypatch.setenv("CAIRN_URL", server.url)
    monkeypatch.setenv("CAIRN_TOKEN", server.token())
    return bare


@pytest.fixture(scope="session")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one small deepmd/npy system of copper, `md`."""
    directory = tmp_path_factory.mktemp("systems")
    frames, atoms = 4, 8
    rng = np.random.default_rng(0)
    arrays = {
        "coord": rng.uniform(0, 7, (frames, atoms * 3)),
        "box": np.tile(np.eye(3).ravel() * 7.22, (frames, 1)),
        "energy": rng.normal(size=frames),
        "force": rng.normal(size=(frames, atoms * 3)),
        "virial": rng.normal(size=(frames, 9)),
    }
    (directory / "md" / "set.000").mkdir(parents=True)
    for name, values in arrays.items():
        np.save(directory / "md" / "set.000" / f"{name}.npy", values)
    (directory / "md" / "type.raw").write_text("0\n" * atoms)
    (directory / "md" / "type_map.raw").write_text("Cu\n")
    return directory


@pytest.fixture(scope="module")
def copper(server: Server, systems: Path) -> str:
    """The reference of a registered dataset."""
    from app.cli import data
    from app.cli.api import connect
    from app.cli.server import Server as Address

    with connect(Address(server.url, server.token(), "test", "test")) as api:
        found = data.upload(api, systems, {"name": "copper"})
    return f"dataset:{found['name']}@{found['version']}"


@pytest.fixture
def config(copper: str) -> dict[str, Any]:
    """A small DeePMD input on the registered dataset."""
    return copy.deepcopy(CONFIG)


@pytest.fixture
def file(config: dict[str, Any], tmp_path: Path) -> Path:
    """That input as a file."""
    path = tmp_path / "input.json"
    path.write_text(json.dumps(config, indent=4))
    return path


@pytest.fixture
def empty_queue(server: Server) -> None:
    """No job of an earlier test waits: a worker is given what waits longest, whatever job it was called for."""
    with server.client() as client:
        for job in client.get("/api/v1/jobs", params={"state": "queued", "limit": 200}).json()["items"]:
            client.post(f"/api/v1/jobs/{job['id']}/cancel")


@pytest.fixture(scope="module")
def worker(server: Server) -> Iterator[SimulatedWorker]:
    """A worker that speaks the protocol and trains nothing."""
    with server.client("worker") as client:
        yield add_worker(client, "one", slots=20)  # type: ignore[arg-type]
