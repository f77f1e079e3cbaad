"""Submitting replicas: what they have in common, what differs, and what is said about it."""

import threading

import pytest
from sqlalchemy import func, select

from app.db import reading
from app.engines.seeds import derive
from app.tables import Group, Job
from tests.app.jobs.conftest import inspect, list_tensors, register, waiting


@pytest.fixture
def replicas(client, submit):
    """Submit a group and return its jobs, in their order."""

    def replicas(count=3, **options):
        first = submit(replicas=count, **options)
        found = client.get("/api/v1/jobs", params={"group": first["group"]}).json()["items"]
        return [client.get(f"/api/v1/jobs/{job['id']}").json() for job in reversed(found)]

    return replicas


def count(app, table=Job) -> int:
    with reading(app.state.sessions) as session:
        return session.scalar(select(func.count()).select_from(table))


def without_seeds(value):
    if isinstance(value, dict):
        return {key: without_seeds(one) for key, one in value.items() if key != "seed"}
    return value


def test_replicas_differ_in_nothing_but_their_seeds(client, copper, config):
    answer = client.post("/api/v1/jobs", json={"config": config, "seed": 7, "replicas": 3, "name": "cu", "tags": ["a"]})
    assert answer.status_code == 201
    first = answer.json()
    assert answer.headers["Location"] == f"/api/v1/jobs/{first['id']}"
    assert answer.headers["Link"] == f'</api/v1/groups/{first["group"]}>; rel="group"'
    page = client.get("/api/v1/jobs", params={"group": first["group"]}).json()["items"]
    jobs = [client.get(f"/api/v1/jobs/{job['id']}").json() for job in reversed(page)]
    assert jobs[0] == first
    assert [(job["name"], job["replica"]) for job in jobs] == [("cu #1", 1), ("cu #2", 2), ("cu #3", 3)]
    assert [job["seed"] for job in jobs] == [derive(7, f"replica.{number}") for number in (1, 2, 3)]
    for job in jobs:
        assert (job["state"], job["group"], job["tags"]) == ("queued", first["group"], ["a"])
        assert without_seeds(job["resolved"]) == without_seeds(first["resolved"])
        assert job["submitted"] == first["submitted"]
        assert job["warnings"] == []
    assert len({job["digest"] for job in jobs}) == 3
    for component in first["seeds"]:
        drawn = {job["seeds"][component] for job in jobs}
        assert len(drawn) == (1 if component == "statistics" else 3), component
    assert client.get("/api/v1/jobs", params={"group": 99}).json()["items"] == []


def test_a_replica_is_the_job_that_its_root_seed_makes(client, config, replicas):
    second = replicas(2)[1]
    alone = client.post("/api/v1/jobs", json={"config": config, "seed": second["seed"], "on_existing": "new"}).json()
    assert alone["digest"] == second["digest"]
    assert alone["group"] is None
    assert alone["replica"] is None


def test_a_root_is_drawn_and_kept_when_none_is_given(app, replicas):
    firsts = [replicas(2)[0] for _ in range(2)]
    with reading(app.state.sessions) as session:
        roots = [session.get_one(Group, job["group"]).seed for job in firsts]
    assert roots[0] != roots[1]
    assert [derive(root, "replica.1") for root in roots] == [job["seed"] for job in firsts]


def test_a_long_name_has_room_for_the_number(replicas):
    assert [job["name"] for job in replicas(2, name="x" * 120)] == ["x" * 117 + " #1", "x" * 117 + " #2"]


def test_a_seed_of_the_config_is_named_as_the_same_in_all(config, replicas):
    config["model"]["descriptor"]["seed"] = 1
    for job in replicas(2):
        (warning,) = job["warnings"]
        assert (warning["code"], warning["pointer"]) == ("equal-in-replicas", "/config/model/descriptor/seed")
        assert warning["message"].startswith("model.descriptor.seed is 1 in every replica")


def test_a_resumed_training_has_no_replicas(client, app, stub, stub_worker):
    register(app)
    inspect(app, stub_worker(), step=100, config={"width": 8}, seed=77)
    body = {"config": {}, "engine": "stub", "start": {"mode": "resume", "base": "water"}, "replicas": 2, "seed": 5}
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == 422
    assert [(p["code"], p["pointer"]) for p in answer.json()["problems"]] == [("equal-replicas", "/replicas")]
    assert count(app) == count(app, Group) == 0


def test_replicas_that_would_all_be_equal_are_refused(client, app, stub, monkeypatch):
    resolve = stub.resolve

    def fixed(config, *, root_seed, **others):
        return resolve(config, root_seed=1, **others)

    monkeypatch.setattr(stub, "resolve", fixed)
    answer = client.post("/api/v1/jobs", json={"config": {}, "engine": "stub", "replicas": 2})
    assert (answer.status_code, answer.json()["code"]) == (422, "equal-replicas")
    assert count(app) == 0


def test_an_idempotency_key_is_for_the_whole_group(client, app, copper, config):
    body, barrier, answers = {"config": config, "replicas": 3}, threading.Barrier(2), []

    def send():
        barrier.wait()
        answers.append(client.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "once"}))

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200, 201]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[0].headers["Link"] == answers[1].headers["Link"]
    assert (count(app), count(app, Group)) == (3, 1)
    other = client.post("/api/v1/jobs", json={**body, "replicas": 4}, headers={"Idempotency-Key": "once"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


def test_the_check_tells_every_root(client, copper, config):
    body = {"config": config, "replicas": 2, "seed": 7}
    check = client.post("/api/v1/configs/resolve", json=body).json()
    job = client.post("/api/v1/jobs", json=body).json()
    assert (check["group_seed"], check["replica_seeds"]) == (7, [derive(7, "replica.1"), derive(7, "replica.2")])
    assert (check["digest"], check["seed"]) == (job["digest"], job["seed"])
    alone = client.post("/api/v1/configs/resolve", json={"config": config}).json()
    assert (alone["group_seed"], alone["replica_seeds"]) == (None, [])


def test_one_errand_lists_the_tensors_for_all_and_then_all_are_queued(client, app, stub, stub_worker, hurried):
    register(app)
    worker = stub_worker()
    inspect(app, worker)
    body = {"config": {}, "engine": "stub", "start": {"mode": "init", "base": "water"}, "replicas": 3}
    job = client.post("/api/v1/jobs", json=body).json()
    assert job["state"] == "checking"
    assert len(waiting(app, "inventory")) == 1
    list_tensors(app, worker)
    jobs = client.get("/api/v1/jobs", params={"group": job["group"]}).json()["items"]
    assert [one["state"] for one in jobs] == ["queued"] * 3
    assert all(client.get(f"/api/v1/jobs/{one['id']}").json()["plan"]["kept"] == 8 for one in jobs)
    again = client.post("/api/v1/jobs", json=body).json()
    assert (again["state"], again["plan"]["kept"]) == ("queued", 8)


def test_a_plan_that_fails_fails_all_replicas(client, app, stub, stub_worker, hurried):
    register(app)
    worker = stub_worker()
    inspect(app, worker)
    body = {"config": {"width": 3}, "engine": "stub", "start": {"mode": "init", "base": "water"}, "replicas": 2}
    job = client.post("/api/v1/jobs", json=body).json()
    list_tensors(app, worker)
    jobs = client.get("/api/v1/jobs", params={"group": job["group"]}).json()["items"]
    assert [one["state"] for one in jobs] == ["failed"] * 2


def test_a_reproduction_of_a_replica_is_a_plain_job(client, replicas, worker):
    second = replicas(2)[1]
    worker.claim(second["id"]).end("completed", 1000)
    again = client.post(f"/api/v1/jobs/{second['id']}/reproduce", json={}).json()
    assert (again["group"], again["replica"], again["seeds"]) == (None, None, second["seeds"])
