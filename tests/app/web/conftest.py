"""Fixtures of the dashboard's tests: built assets, a full database, signed-in clients."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.keys import token_file
from app.settings import Settings
from app.web import build
from tests.app.web.seeding import Seeded, SeededGroup, seed_all, seed_group


@pytest.fixture(scope="session")
def assets(shared_dir: Path) -> None:
    """Build the assets, once per run: processes of the same run wait for each other."""
    lock = shared_dir / "assets.lock"
    while True:
        try:
            lock.mkdir()
            break
        except FileExistsError:
            time.sleep(0.2)
    try:
        build.install(testing=True)
        build.build()
    finally:
        lock.rmdir()


@pytest.fixture
def seeded(app: FastAPI, anonymous: TestClient, settings: Settings) -> Seeded:
    """Fill the running application's database."""
    return seed_all(app.state.sessions, settings)


@pytest.fixture
def ensemble(app: FastAPI, seeded: Seeded, settings: Settings) -> SeededGroup:
    """A group of replicas beside all the rest."""
    return seed_group(app.state.sessions, settings)


@pytest.fixture
def browser_client(assets: None, anonymous: TestClient, settings: Settings) -> TestClient:
    """A client that signed in at the login page, and so has a session cookie but no token."""
    token = token_file(settings, "user").read_text().strip()
    answer = anonymous.post("/login", data={"token": token}, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return anonymous


@pytest.fixture
def server(assets: None, app: FastAPI) -> Iterator[str]:
    """Address of the application, served by uvicorn on a free port."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    for _ in range(300):
        if server.started:
            break
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=15)
    assert not thread.is_alive(), "the server did not stop"
