"""The line engine in the real service: nothing outside `tests/engines/line` knows of it, and it trains all the same."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import find_free_port

ROOT = Path(__file__).parents[3]
PATIENCE_S = 120.0
POINTS = [[x / 10, 3 * x / 10 + 1] for x in range(-10, 11)]


@contextmanager
def _running(part: str, log: Path, environment: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as sink:
        command = [sys.executable, "-m", "tests.engines.line.service", part]
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=sink, stderr=sink)
        try:
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def client(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, redis_server: str
) -> Iterator[httpx.Client]:
    """A client of a service with one worker, both of which know the line engine."""
    directory = tmp_path_factory.mktemp("line")
    shutil.copy(sqlite_template, directory / "cairn.db")
    port = str(find_free_port())
    environment = {
        "CAIRN_DATA_DIR": str(directory),
        "CAIRN_REDIS_URL": redis_server,
        "CAIRN_PORT": port,
        "CAIRN_API_URL": f"http://127.0.0.1:{port}",
        "CAIRN_WORK_DIR": str(directory / "work"),
        "CAIRN_ENGINES": "line",
    }
    with (
        httpx.Client(base_url=environment["CAIRN_API_URL"], timeout=PATIENCE_S, trust_env=False) as client,
        _running("api", directory / "api.log", environment),
    ):
        _wait(lambda: _is_up(client), directory / "api.log")
        client.headers["Authorization"] = f"Bearer {(directory / 'user.token').read_text().strip()}"
        with _running("worker", directory / "worker.log", environment):
            yield client


def _is_up(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/api/v1/health").is_success
    return False


def _wait(condition: Callable[[], Any], log: Path | None = None) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-3000:] if log else "waited in vain")


def _answer(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


def _train(client: httpx.Client, config: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Submit a training and return it once it is over."""
    job = _answer(client.post("/api/v1/jobs", json={"engine": "line", "config": config, "seed": 7, **options}))

    def ended() -> Any:
        found = _answer(client.get(f"/api/v1/jobs/{job['id']}"))
        return found if found["state"] in ("completed", "failed") else None

    done: dict[str, Any] = _wait(ended)
    assert done["state"] == "completed", done["cause"]
    return done


def test_an_engine_that_nothing_else_knows_of_trains(client: httpx.Client) -> None:
    points = json.dumps(POINTS).encode()
    dataset = client.post("/api/v1/datasets?name=points&filename=points.json&engine=line", content=points)
    assert _answer(dataset)["summary"]["extra"] == {"points": 21}
    config = {"model": {"degree": 1}, "data": "dataset:points", "steps": 40, "every": 20}

    job = _train(client, config)
    loss = _answer(client.get(f"/api/v1/jobs/{job['id']}/metrics", params={"keys": "train/loss"}))
    assert loss["steps"]["train/loss"] == list(range(1, 41))
    values = loss["values"]["train/loss"]
    assert values == sorted(values, reverse=True)
    curve = client.get(f"/api/v1/jobs/{job['id']}/metrics", params={"format": "learning-curve"}).text
    assert curve.splitlines()[1] == f"1 {values[0]}"
    checkpoints = _answer(client.get(f"/api/v1/jobs/{job['id']}/checkpoints"))
    assert [checkpoint["step"] for checkpoint in checkpoints] == [40, 20]

    start = {"mode": "init", "base": f"job:{job['id']}", "allow": ["model.degree"]}
    wider = _train(client, {**config, "model": {"degree": 2}}, start=start)
    assert wider["plan"]["counts"] == {"padded": 1, "copied": 1}
    first = _answer(client.get(f"/api/v1/jobs/{wider['id']}/metrics", params={"keys": "train/slope"}))
    assert first["values"]["train/slope"][0] == pytest.approx(3.0, abs=1.0)

    longer = _train(client, {"steps": 60}, start={"mode": "resume", "base": f"job:{job['id']}"})
    again = _train(client, {**config, "steps": 60})
    prints = [
        _answer(client.get(f"/api/v1/jobs/{other['id']}/checkpoints"))[0]["fingerprint"] for other in (longer, again)
    ]
    assert prints[0] == prints[1]
