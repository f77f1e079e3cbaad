"""Pausing, resuming, retrying, changing and extending jobs, with a simulated worker."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import update
from starlette.testclient import TestClient

from app.db import transaction
from app.fleet import upkeep
from app.settings import Settings
from app.tables import Attempt, Job
from app.tables.base import now
from tests.app.jobs.conftest import inspect, list_tensors, register
from tests.app.simulated import SimulatedAttempt, SimulatedWorker


def do(client: TestClient, job_id: int, what: str, **body: Any) -> dict[str, Any]:
    answer = client.post(f"/api/v1/jobs/{job_id}/{what}", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def refusal(client: TestClient, job_id: int, what: str, **body: Any) -> dict[str, Any]:
    answer = client.post(f"/api/v1/jobs/{job_id}/{what}", json=body)
    assert answer.status_code in (409, 422), answer.text
    return dict(answer.json())


def show(client: TestClient, job_id: int) -> dict[str, Any]:
    answer = client.get(f"/api/v1/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def told(client: TestClient, job_id: int) -> list[tuple[str, str]]:
    return [(event["kind"], event["message"]) for event in client.get(f"/api/v1/jobs/{job_id}/events").json()]


def expire_leases(app: FastAPI, settings: Settings) -> None:
    with transaction(app.state.sessions) as session:
        session.execute(update(Attempt).values(lease_expires_at=now() - timedelta(minutes=5)))
    assert upkeep.reap(app.state.sessions, settings) == 1


@pytest.fixture
def rung(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Rings of the doorbell."""
    rings: list[tuple[Any, ...]] = []
    monkeypatch.setattr(app.state.doorbell, "ring", lambda *ring: rings.append(ring))
    return rings


@pytest.fixture
def running(submit, worker: SimulatedWorker) -> SimulatedAttempt:
    """A job in its first execution, with a checkpoint of step 200."""
    attempt = worker.claim(submit()["id"])
    assert attempt.checkpoint(200).status_code == 200
    return attempt


# --- pause and resume ---------------------------------------------------------------------------------------------------


def test_a_queued_job_is_paused_at_once_and_comes_back(client, submit, worker, rung):
    job_id = submit()["id"]
    paused = do(client, job_id, "pause", reason="the cluster is full")
    assert paused["state"] == "paused"
    assert show(client, job_id)["stop_reason"] == "the cluster is full"
    assert worker.try_claim(job_id).status_code == 409
    do(client, job_id, "pause")
    assert [kind for kind, _ in told(client, job_id)] == ["submitted", "paused"], "pausing again changes nothing"
    assert do(client, job_id, "resume")["state"] == "queued"
    assert show(client, job_id)["stop_reason"] is None
    assert rung == [("deepmd", job_id, 1, 1), ("deepmd", job_id, 1, 1)]
    do(client, job_id, "pause")
    assert do(client, job_id, "cancel")["state"] == "cancelled", "and it may be cancelled while it is paused"


def test_a_running_job_stops_after_a_checkpoint_and_goes_on_from_it(client, running, worker, rung):
    job_id = running.claim["job_id"]
    assert do(client, job_id, "pause")["state"] == "stopping"
    stop = running.heartbeat(230).json()
    assert (stop["action"], stop["how"]) == ("stop", "checkpoint")
    assert refusal(client, job_id, "resume")["code"] == "still-stopping"
    assert running.metrics(0, [230, 231]).status_code == 204, "a stopping job's last metrics count"
    assert running.checkpoint(231).status_code == 200, "and so does its last checkpoint"
    assert running.end("stopped", 231).json() == {"job_state": "paused"}
    job = show(client, job_id)
    assert (job["progress"]["step"], job["ended_at"], job["attempts"][0]["state"]) == (231, None, "interrupted")
    assert told(client, job_id)[-1] == ("paused", "paused at step 231")
    assert rung == []
    do(client, job_id, "resume")
    assert rung == [("deepmd", job_id, 2, 1)]
    assert worker.claim(job_id, 2).claim["resume_from"]["step"] == 231


def test_a_pause_whose_worker_dies_meanwhile_ends_paused(app, settings, client, running):
    job_id = running.claim["job_id"]
    running.heartbeat(250)
    do(client, job_id, "pause")
    expire_leases(app, settings)
    job = show(client, job_id)
    assert (job["state"], job["progress"]["step"], job["cause"]) == ("paused", 200, None)
    assert (job["attempts"][0]["state"], job["attempts"][0]["cause"]["failure"]) == ("lost", "host-lost")
    assert "it will go on from step 200, the last that was saved" in told(client, job_id)[-1][1]


def test_pauses_do_not_count_against_a_job(app, settings, client, submit, worker):
    settings.max_attempts = 2
    job_id = submit()["id"]
    for number in (1, 2, 3):
        worker.claim(job_id, number)
        do(client, job_id, "pause")
        expire_leases(app, settings)
        do(client, job_id, "resume")
    worker.claim(job_id, 4)
    expire_leases(app, settings)
    assert show(client, job_id)["state"] == "queued", "one execution of two was lost since the job was resumed"


def test_cancelling_overrules_a_pause_and_not_the_other_way_round(client, running):
    job_id = running.claim["job_id"]
    do(client, job_id, "pause")
    assert do(client, job_id, "cancel", reason="wrong data")["state"] == "stopping"
    assert running.heartbeat(230).json()["reason"] == "wrong data"
    for what in ("pause", "resume"):
        answer = refusal(client, job_id, what)
        assert (answer["code"], "wrong data" in answer["message"]) == ("being-cancelled", True)
    assert running.end("stopped", 230).json() == {"job_state": "cancelled"}
    assert refusal(client, job_id, "pause")["code"] == "job-finished"
    assert "retry it" in refusal(client, job_id, "resume")["hint"]


def test_a_job_that_does_not_exist_is_not_found(client):
    for what in ("pause", "resume", "retry"):
        assert client.post(f"/api/v1/jobs/5/{what}").status_code == 404
    assert client.post("/api/v1/jobs/5/extend", json={"steps": 5}).status_code == 404
    assert client.patch("/api/v1/jobs/5", json={"priority": 5}).status_code == 404


@pytest.fixture
def checking(app, client, stub, hurried, stub_worker) -> tuple[int, SimulatedWorker]:
    """A job that waits for its plan, and the worker that could list the tensors."""
    worker = stub_worker()
    register(app)
    inspect(app, worker)
    body = {"engine": "stub", "config": {}, "start": {"mode": "finetune", "base": "water"}}
    job = client.post("/api/v1/jobs", json=body).json()
    assert job["state"] == "checking"
    return int(job["id"]), worker


def test_a_checking_job_comes_back_to_waiting_for_its_plan(app, client, checking):
    job_id, worker = checking
    do(client, job_id, "pause")
    assert do(client, job_id, "resume")["state"] == "checking"
    list_tensors(app, worker)
    assert show(client, job_id)["state"] == "queued"


def test_a_checking_job_is_planned_while_it_is_paused(app, client, checking):
    job_id, worker = checking
    do(client, job_id, "pause")
    list_tensors(app, worker)
    job = show(client, job_id)
    assert (job["state"], job["plan"]["kept"]) == ("paused", 8)
    assert worker.try_claim(job_id).status_code == 409
    assert do(client, job_id, "resume")["state"] == "queued"
    assert worker.claim(job_id).claim["plan"] == job["plan"]


def test_a_paused_job_that_cannot_be_planned_fails(app, client, stub, hurried, stub_worker):
    worker = stub_worker()
    register(app)
    inspect(app, worker)
    start = {"mode": "finetune", "base": "water"}
    body = {"engine": "stub", "config": {"width": 5}, "start": start}
    job_id = client.post("/api/v1/jobs", json=body).json()["id"]
    do(client, job_id, "pause")
    list_tensors(app, worker)
    assert show(client, job_id)["cause"]["failure"] == "configuration"
    answer = refusal(client, job_id, "retry", force=True)
    assert (answer["code"], answer["hint"]) == ("never-planned", f"Submit it again: `cairn clone {job_id}`.")


# --- retry --------------------------------------------------------------------------------------------------------------


def test_a_failed_job_goes_on_from_its_newest_checkpoint_and_counts_on(client, running, worker, rung):
    job_id = running.claim["job_id"]
    running.metrics(0, [100, 200, 300])
    running.end("failed", 300, "non-finite")
    job = do(client, job_id, "retry")
    assert (job["state"], job["cause"], job["ended_at"], job["progress"]["step"]) == ("queued", None, None, 200)
    kind, words = told(client, job_id)[-1]
    assert (kind, words.endswith("from the checkpoint of step 200")) == ("retried", True)
    assert rung == [("deepmd", job_id, 2, 1)]
    again = worker.claim(job_id, 2)
    assert again.claim["resume_from"]["step"] == 200
    again.metrics(0, [300, 400])
    steps = client.get(f"/api/v1/jobs/{job_id}/metrics", params={"keys": "train/loss"}).json()["steps"]["train/loss"]
    assert steps == [100, 200, 300, 400]


def test_a_cancelled_job_is_retried(client, submit, worker):
    job_id = submit()["id"]
    do(client, job_id, "cancel")
    assert do(client, job_id, "retry")["state"] == "queued"
    assert worker.claim(job_id).claim["resume_from"] is None


def test_a_job_that_was_given_up_gets_all_its_tries_again(app, settings, client, submit, worker):
    settings.max_attempts = 1
    job_id = submit()["id"]
    worker.claim(job_id)
    expire_leases(app, settings)
    assert "given up" in show(client, job_id)["cause"]["message"]
    do(client, job_id, "retry")
    settings.max_attempts = 2
    worker.claim(job_id, 2)
    expire_leases(app, settings)
    assert show(client, job_id)["state"] == "queued"


def test_what_would_fail_again_is_retried_only_by_force_and_what_is_not_over_never(client, submit, worker):
    for failure in ("configuration", "data"):
        job_id = submit()["id"]
        attempt = worker.claim(job_id)
        assert refusal(client, job_id, "retry")["code"] == "not-ended"
        attempt.end("failed", 210, failure)
        answer = refusal(client, job_id, "retry")
        assert answer["code"] == "would-fail-again"
        assert f"it was {failure}" in answer["message"]
        assert f"cairn clone {job_id}" in answer["hint"]
        assert do(client, job_id, "retry", force=True)["state"] == "queued"
        worker.claim(job_id, 2).end("completed", 1000)
        assert refusal(client, job_id, "retry")["code"] == "job-finished"


# --- name, priority, tags -----------------------------------------------------------------------------------------------


def test_name_priority_and_tags_are_changed_and_told(client, submit, worker):
    first, second = submit()["id"], submit(tags=["old"])["id"]
    version = client.get(f"/api/v1/jobs/{second}").headers["ETag"]
    body = {"priority": 5, "name": "urgent", "tags": ["a", "b", "a"]}
    answer = client.patch(f"/api/v1/jobs/{second}", json=body, headers={"If-Match": version})
    job = answer.json()
    assert (job["priority"], job["name"], job["tags"]) == (5, "urgent", ["a", "b"])
    assert answer.headers["ETag"] == client.get(f"/api/v1/jobs/{second}").headers["ETag"] != version
    assert "tags old is now a, b" in told(client, second)[-1][1]
    assert worker.claim(first).claim["job_id"] == second, "the more urgent one is given first"


def test_what_is_left_out_or_the_same_changes_nothing(client, submit):
    job_id = submit(priority=3)["id"]
    before = client.get(f"/api/v1/jobs/{job_id}")
    after = client.patch(f"/api/v1/jobs/{job_id}", json={"priority": 3, "name": None})
    assert after.headers["ETag"] == before.headers["ETag"]
    assert len(told(client, job_id)) == 1
    answer = client.patch(f"/api/v1/jobs/{job_id}", json={"priority": 101})
    assert (answer.status_code, answer.json()["pointer"]) == (422, "/priority")


def test_a_job_that_has_changed_since_is_not_changed(client, submit):
    job_id = submit()["id"]
    for tag in (f'"job-{job_id}-99"', f'"job-{job_id + 1}-1"', "nonsense"):
        answer = client.patch(f"/api/v1/jobs/{job_id}", json={"priority": 5}, headers={"If-Match": tag})
        assert (answer.status_code, answer.json()["code"]) == (412, "changed-meanwhile")
    assert show(client, job_id)["priority"] == 0
    assert client.patch(f"/api/v1/jobs/{job_id}", json={"priority": 5}, headers={"If-Match": "*"}).status_code == 200


# --- extend -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(app, client, stub, stub_worker, settings) -> int:
    """A finished training of 100 steps whose last checkpoint has been looked into."""
    settings.plan_wait_s = 0.2
    worker = stub_worker()
    submission = {"engine": "stub", "config": {"steps": 100}, "seed": 77, "tags": ["t"], "determinism": "strict"}
    job_id = int(client.post("/api/v1/jobs", json=submission).json()["id"])
    attempt = worker.claim(job_id)
    attempt.checkpoint(100)
    attempt.end("completed", 100)
    assert client.post(f"/api/v1/jobs/{job_id}/extend", json={"steps": 300}).json()["code"] == "base-not-ready"
    inspect(app, worker, step=100, config={"steps": 100, "width": 8}, has_optimizer=True)
    return job_id


def test_a_finished_training_is_extended_by_a_new_job(client, finished, stub_worker):
    answer = client.post(f"/api/v1/jobs/{finished}/extend", json={"steps": 300}, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert (job["start_mode"], job["seed"], job["determinism"], job["tags"]) == ("resume", 77, "strict", ["t"])
    assert (job["progress"]["step"], job["progress"]["total_steps"]) == (100, 300)
    assert (job["resolved"]["width"], job["origins"]["/width"]["origin"]) == (8, "base")
    steps = job["origins"]["/steps"]
    assert (steps["origin"], steps["losing"][0]["value"]) == ("explicit", 100)
    assert told(client, job["id"])[-1] == ("extends", f"extends job {finished} from step 100 to 300")
    assert told(client, finished)[-1][0] == "extended"
    assert show(client, finished)["state"] == "completed"
    assert stub_worker().claim(job["id"]).claim["resume_from"]["step"] == 100
    again = client.post(f"/api/v1/jobs/{finished}/extend", json={"steps": 300}, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["id"]) == (200, job["id"])
    other = client.post(f"/api/v1/jobs/{finished}/extend", json={"steps": 400}, headers={"Idempotency-Key": "k"})
    assert other.json()["code"] == "idempotency-key-reused"


def test_the_same_extension_is_not_trained_twice_unasked(client, finished, stub_worker):
    def extend(**more):
        return client.post(f"/api/v1/jobs/{finished}/extend", json={"steps": 300, **more})

    first = extend().json()
    assert first["weight_check"]["decision"] == "scratch"
    refused = extend()
    assert (refused.status_code, refused.json()["code"], refused.json()["pointer"]) == (
        409,
        "twin-exists",
        "/on_existing",
    )
    assert f"Job {first['id']}, queued" in refused.json()["message"]
    assert "--on-existing" in refused.json()["hint"]
    same = extend(on_existing="reuse")
    assert (same.status_code, same.json()["id"]) == (200, first["id"])
    assert same.json()["weight_check"]["decision"] == "reuse"
    assert told(client, finished)[-1][0] == "extended"  # once

    attempt = stub_worker().claim(first["id"])
    attempt.checkpoint(200)
    attempt.end("failed", 220, "non-finite")
    again = extend()
    assert again.status_code == 201
    assert (again.json()["weight_check"]["decision"], again.json()["progress"]["step"]) == ("resume", 200)
    assert (
        f"found 1 checkpoint of an interrupted twin (job {first['id']}"
        in again.json()["weight_check"]["summary"].lower()
    )
    assert stub_worker().claim(again.json()["id"]).claim["resume_from"]["step"] == 200
    assert extend(on_existing="new").json()["progress"]["step"] == 100


def test_an_extension_needs_more_steps(client, finished):
    answer = refusal(client, finished, "extend", steps=100)
    assert (answer["code"], answer["pointer"]) == ("out-of-range", "/steps")


def test_only_a_training_at_rest_with_a_checkpoint_is_extended(app, client, submit, running):
    assert refusal(client, running.claim["job_id"], "extend", steps=2000)["code"] == "not-ended"
    job_id = submit()["id"]
    do(client, job_id, "pause")
    assert refusal(client, job_id, "extend", steps=2000)["code"] == "no-checkpoint"
    with transaction(app.state.sessions) as session:
        session.execute(update(Job).where(Job.id == job_id).values(kind="model-devi"))
    assert refusal(client, job_id, "extend", steps=2000)["code"] == "no-training"


def test_a_training_without_a_good_checkpoint_is_not_extended(app, client, running):
    job_id = running.claim["job_id"]
    running.end("failed", 300, "non-finite")
    (checkpoint,) = client.get(f"/api/v1/jobs/{job_id}/checkpoints").json()
    app.state.blobs.backend.path(checkpoint["files"][0]["sha256"]).unlink()
    answer = refusal(client, job_id, "extend", steps=2000)
    assert (answer["code"], answer["hint"]) == ("no-checkpoint", f"Submit it again: `cairn clone {job_id}`.")
