import json
import threading

import pytest
from sqlalchemy import func, select

from app.db import transaction
from app.jobs.transitions import enqueue
from app.tables import Event, Job


def post(client, text: str, key: str | None = None):
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    return client.post("/api/v1/jobs", content=text.encode(), headers=headers)


def count(app) -> int:
    with app.state.sessions() as session:
        return session.scalar(select(func.count()).select_from(Job))


def test_a_job_is_queued_with_its_resolved_config(client, copper, config):
    answer = client.post("/api/v1/jobs", json={"config": config, "seed": 7, "tags": ["a", "a", "b"]})
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    assert job["state"] == "queued"
    assert job["name"] == "copper"
    assert job["tags"] == ["a", "b"]
    assert job["progress"] == {
        "step": 0,
        "unit": "step",
        "total_steps": 1000,
        "latest": {},
        "headline": [],
        "units": {},
        "phase": None,
        "steps_per_s": None,
        "eta_s": None,
    }
    assert job["submitted"] == {"config": config, "seed": 7, "tags": ["a", "a", "b"]}
    assert job["datasets"] == ["dataset:copper@1"]
    assert job["seed"] == 7
    assert job["origins"]["/model/descriptor/rcut"] == {
        "origin": "explicit",
        "losing": job["origins"]["/model/descriptor/rcut"]["losing"],
        "source": None,
        "note": None,
        "ignored": None,
    }
    assert job["resolved"]["model"]["descriptor"]["rcut"] == 5.0


def test_a_seed_is_drawn_and_recorded_when_none_is_given(submit):
    first, second = submit(), submit()
    assert first["seed"] != second["seed"]
    assert first["digest"] != second["digest"]


def test_the_key_order_of_the_config_is_kept(client, copper, config):
    answer = post(client, json.dumps({"config": dict(reversed(config.items()))}))
    assert list(client.get(answer.headers["Location"]).json()["submitted"]["config"]) == list(reversed(config))


def test_every_mistake_is_told_with_its_place(client, copper, config):
    config["model"]["descriptor"]["rcut"] = "six"
    config["model"]["descriptr"] = {}
    config["training"]["training_data"]["systems"] = ["/home/me/data"]
    answer = client.post("/api/v1/jobs", json={"config": config})
    assert answer.status_code == 422
    pointers = {problem["pointer"] for problem in answer.json()["problems"]}
    assert "/config/training/training_data/systems/0" in pointers
    assert all(pointer.startswith("/config/") for pointer in pointers)


def test_mistakes_beside_the_config_are_told_too(client, copper, config):
    answer = client.post("/api/v1/jobs", json={"config": config, "sed": 7, "priority": 1000})
    assert {problem["pointer"] for problem in answer.json()["problems"]} == {"/sed", "/priority"}


def test_a_bare_input_document_gets_a_hint(client, config):
    answer = client.post("/api/v1/jobs", json=config)
    assert answer.status_code == 422
    assert '{"config": …}' in answer.json()["hint"]


def test_an_unknown_dataset_is_named(client, copper, config):
    config["training"]["training_data"]["systems"] = ["dataset:coper"]
    problem = client.post("/api/v1/jobs", json={"config": config}).json()
    assert problem["code"] == "unknown-dataset"
    assert "dataset:copper" in problem["hint"]


def test_an_unknown_engine_is_refused_with_those_there_are(client, copper, config):
    problem = client.post("/api/v1/jobs", json={"config": config, "engine": "abacus"}).json()
    assert (problem["code"], problem["pointer"]) == ("unknown-engine", "/engine")
    assert "deepmd" in problem["hint"]


def test_a_refused_submission_leaves_nothing_behind(client, app, copper, config):
    config["training"]["numb_steps"] = -1
    assert client.post("/api/v1/jobs", json={"config": config}).status_code == 422
    assert count(app) == 0


def test_another_content_type_is_refused(client):
    answer = client.post("/api/v1/jobs", content=b"a: 1", headers={"Content-Type": "application/yaml"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")


def test_an_oversized_config_is_refused(client, settings):
    text = '{"config": {"comment": "' + "x" * settings.max_config_bytes + '"}}'
    assert post(client, text).status_code == 413


def test_resolving_answers_like_submitting_and_creates_nothing(client, app, copper, config):
    resolution = client.post("/api/v1/configs/resolve", json={"config": config, "seed": 7}).json()
    assert count(app) == 0
    job = client.post("/api/v1/jobs", json={"config": config, "seed": 7}).json()
    assert resolution["digest"] == job["digest"]
    assert resolution["config"] == job["resolved"]
    assert resolution["origins"] == job["origins"]
    config["training"]["numb_steps"] = -1
    assert client.post("/api/v1/configs/resolve", json={"config": config}).status_code == 422


def test_the_same_key_and_body_return_the_same_job(client, app, copper, config):
    text = json.dumps({"config": config})
    first = post(client, text, "k1")
    again = post(client, json.dumps({"config": dict(reversed(config.items()))}), "k1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert count(app) == 1


def test_the_same_key_with_another_body_is_refused(client, app, copper, config):
    assert post(client, json.dumps({"config": config}), "k1").status_code == 201
    other = post(client, json.dumps({"config": config, "seed": 1}), "k1")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert count(app) == 1


def test_the_same_key_at_the_same_moment_makes_one_job(client, app, copper, config):
    text = json.dumps({"config": config, "seed": 1})
    barrier, answers = threading.Barrier(4), []

    def go():
        barrier.wait()
        answers.append(post(client, text, "k1"))

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert count(app) == 1


class Bell:
    """Notes what would be rung."""

    def __init__(self):
        self.rung = []

    def ring(self, *ring):
        self.rung.append(ring)
        return True


@pytest.fixture
def bell(app, client, monkeypatch):
    bell = Bell()
    monkeypatch.setattr(app.state.doorbell, "ring", bell.ring)
    return bell


def test_the_doorbell_rings_once_the_job_is_committed(submit, bell):
    job = submit()
    assert bell.rung == [("deepmd", job["id"], 1, 1)]


def requeue(session, job_id: int) -> None:
    job = session.get_one(Job, job_id)
    job.state = "checking"
    enqueue(session, job)


def test_a_rollback_drops_the_doorbell(client, app, submit, bell):
    job_id = submit()["id"]
    bell.rung.clear()
    with app.state.sessions() as session:
        requeue(session, job_id)
        session.rollback()
        session.add(Event(job_id=job_id, kind="warning", message="the next transaction of the same session"))
        session.commit()
    assert bell.rung == []


def test_a_savepoint_neither_sends_nor_drops(client, app, submit, bell):
    job_id = submit()["id"]
    bell.rung.clear()
    with transaction(app.state.sessions) as session:
        requeue(session, job_id)
        with session.begin_nested():
            session.add(Event(job_id=job_id, kind="warning", message="kept"))
        with pytest.raises(RuntimeError), session.begin_nested():
            raise RuntimeError("in a savepoint")
        assert bell.rung == []
    assert bell.rung == [("deepmd", job_id, 1, 1)]
