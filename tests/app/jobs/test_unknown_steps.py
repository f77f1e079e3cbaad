"""Jobs whose number of steps nobody knows before a worker has read the data."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.app.simulated import SimulatedAttempt, SimulatedWorker


@pytest.fixture
def worker(stub_worker: Callable[[], SimulatedWorker]) -> SimulatedWorker:
    return stub_worker()


def submit(client: TestClient, **options: Any) -> dict[str, Any]:
    answer = client.post("/api/v1/jobs", json={"config": {"steps": 0}, "engine": "stub"} | options)
    assert answer.status_code == 201, answer.text
    return answer.json()


def progress(client: TestClient, job: dict[str, Any]) -> dict[str, Any]:
    return client.get(f"/api/v1/jobs/{job['id']}").json()["progress"]


def events(client: TestClient, job: dict[str, Any]) -> list[str]:
    return [event["message"] for event in client.get(f"/api/v1/jobs/{job['id']}/events").json()]


def interrupted(attempt: SimulatedAttempt, step: int, total_steps: int) -> None:
    assert attempt.checkpoint(step).status_code == 200
    assert attempt.end("interrupted", step, total_steps=total_steps).json() == {"job_state": "queued"}


def test_the_number_is_known_as_soon_as_the_trainer_says_it(client: TestClient, worker: SimulatedWorker) -> None:
    job = submit(client)
    assert "as many steps as the data make" in events(client, job)[0]
    attempt = worker.claim(job["id"])
    attempt.heartbeat(3)
    assert (progress(client, job)["total_steps"], progress(client, job)["eta_s"]) == (0, None)
    attempt.heartbeat(4, total_steps=24)
    assert (progress(client, job)["total_steps"], progress(client, job)["eta_s"]) == (24, 2.0)
    attempt.heartbeat(5)
    assert progress(client, job)["total_steps"] == 24, "what is known stays"
    assert attempt.end("completed", 24, total_steps=24).json() == {"job_state": "completed"}


def test_a_short_training_says_it_only_at_its_end(client: TestClient, worker: SimulatedWorker) -> None:
    job = submit(client)
    assert worker.claim(job["id"]).end("completed", 2, total_steps=2).json() == {"job_state": "completed"}
    assert progress(client, job)["total_steps"] == 2


def test_the_next_execution_is_told_and_has_to_agree(client: TestClient, worker: SimulatedWorker) -> None:
    job = submit(client)
    first = worker.claim(job["id"])
    assert first.claim["total_steps"] == 0
    interrupted(first, 10, 24)
    second = worker.claim(job["id"], 2)
    assert second.claim["total_steps"] == 24
    assert second.end("completed", 30, total_steps=30).json() == {"job_state": "failed"}
    assert "of 30, but the job has 24" in client.get(f"/api/v1/jobs/{job['id']}").json()["cause"]["message"]


def test_a_training_that_never_said_how_long_it_is_is_not_completed(
    client: TestClient, worker: SimulatedWorker
) -> None:
    job = submit(client)
    assert worker.claim(job["id"]).end("completed", 7).json() == {"job_state": "failed"}
    assert "without saying how many steps" in client.get(f"/api/v1/jobs/{job['id']}").json()["cause"]["message"]


def test_it_is_extended_beyond_what_it_has_done(client: TestClient, worker: SimulatedWorker, hurried: None) -> None:
    job = submit(client)
    attempt = worker.claim(job["id"])
    attempt.checkpoint(10)
    client.post(f"/api/v1/jobs/{job['id']}/cancel", json={})
    attempt.end("stopped", 10)
    refused = client.post(f"/api/v1/jobs/{job['id']}/extend", json={"steps": 10}).json()
    assert (refused["code"], "more than 10" in refused["hint"]) == ("out-of-range", True)
    # With more it goes on to what follows: a worker has to look into the checkpoint.
    assert client.post(f"/api/v1/jobs/{job['id']}/extend", json={"steps": 30}).json()["code"] == "base-not-ready"


def test_replicas_of_unknown_length_are_counted_as_far_as_they_are(client: TestClient, worker: SimulatedWorker) -> None:
    job = submit(client, replicas=2)
    worker.claim(job["id"]).heartbeat(4)
    group = client.get(f"/api/v1/groups/{job['group']}").json()
    assert (group["step"], group["total_steps"]) == (0, 0)
