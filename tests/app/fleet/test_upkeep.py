import json
import threading
import time
from datetime import timedelta

import pytest
import redis
from sqlalchemy import create_engine, update
from sqlalchemy.orm import sessionmaker
from starlette.testclient import TestClient

from app.db import transaction
from app.fleet import upkeep
from app.main import create_app
from app.settings import Settings
from app.tables import Attempt, Job, Worker
from app.tables.base import now
from tests.app.simulated import add_worker


@pytest.fixture
def settings(database_url, tmp_path, redis_url) -> Settings:
    """Settings with a real broker."""
    return Settings(data_dir=tmp_path / "data", database_url=database_url, redis_url=redis_url)


@pytest.fixture
def messages(redis_url):
    """Take the messages from the broker: (job, attempt) in order."""

    def take(queue: str = "cairn.deepmd") -> list[tuple[int, int]]:
        with redis.Redis.from_url(redis_url) as connection:
            raw = [connection.rpop(queue) for _ in range(connection.llen(queue))]
        return [
            tuple(json.loads(json.loads(item)["headers"]["argsrepr"].replace("(", "[").replace(")", "]"))[:2])
            for item in raw
        ]

    return take


@pytest.fixture
def count(redis_url):
    """Count the messages."""

    def count() -> int:
        with redis.Redis.from_url(redis_url) as connection:
            return connection.llen("cairn.deepmd")

    return count


@pytest.fixture
def reconcile(app, client, settings):
    return lambda: upkeep.reconcile(app.state.sessions, settings)


def change(app, **values) -> None:
    with transaction(app.state.sessions) as session:
        session.execute(update(Job).values(**values))


def long_ago():
    return now() - timedelta(minutes=5)


def test_a_submission_rings_once(submit, messages, reconcile):
    job_id = submit()["id"]
    assert messages() == [(job_id, 1)]
    assert reconcile() == 0


def test_a_lost_message_is_rung_again_and_only_once(app, submit, messages, reconcile):
    job_id = submit()["id"]
    assert messages() == [(job_id, 1)]
    assert reconcile() == 0, "whoever took it may be about to claim the job"
    for _ in range(3):  # with nobody there to answer
        change(app, rung_at=long_ago())
        reconcile()
    assert messages() == [(job_id, 1)]


def test_while_every_message_is_there_none_is_sent_again(app, submit, count, reconcile):
    for _ in range(3):
        submit()
    change(app, rung_at=long_ago())
    assert reconcile() == 0
    assert count() == 3


def test_of_many_lost_messages_no_more_than_a_batch_waits_and_none_twice(
    app, submit, messages, reconcile, redis_url, monkeypatch
):
    monkeypatch.setattr(upkeep, "BATCH", 2)
    ids = [submit()["id"] for _ in range(4)]
    messages()
    for age_s, job_id in zip((400, 300, 200, 100), ids, strict=True):
        ring_ago(app, job_id, age_s)
    assert reconcile() == 2
    assert reconcile() == 0, "nobody has answered yet"
    ring_ago(app, ids[0], 60)
    ring_ago(app, ids[1], 60)
    with redis.Redis.from_url(redis_url) as connection:
        connection.rpop("cairn.deepmd")  # one is answered; the other's message still waits, for long
    assert reconcile() == 1
    assert messages() == [(ids[1], 1), (ids[2], 1)]


def ring_ago(app, job_id: int, seconds: float) -> None:
    with transaction(app.state.sessions) as session:
        session.execute(update(Job).where(Job.id == job_id).values(rung_at=now() - timedelta(seconds=seconds)))


def test_jobs_of_several_slots_have_messages_of_their_own(app, submit, messages, reconcile):
    small, large = submit()["id"], submit(resources={"gpus": 2})["id"]
    messages("cairn.deepmd.slots-2")
    change(app, rung_at=long_ago())
    assert reconcile() == 1
    assert (messages(), messages("cairn.deepmd.slots-2")) == ([(small, 1)], [(large, 1)])


def test_a_pause_is_waited_for(app, submit, worker, messages, reconcile):
    job_id = submit()["id"]
    worker.claim(job_id).end("interrupted", 3, "killed")
    messages()
    assert reconcile() == 0
    change(app, not_before=now())
    assert reconcile() == 1
    assert messages() == [(job_id, 2)]


def test_a_job_given_back_is_rung_at_once(submit, worker, messages):
    job_id = submit()["id"]
    messages()
    worker.claim(job_id).end("interrupted", 3)
    assert messages() == [(job_id, 2)]


def test_several_processes_ring_once(app, settings, submit, worker, messages):
    ids = [submit()["id"] for _ in range(2)]
    messages()
    change(app, rung_at=None)
    barrier = threading.Barrier(4)

    def go():
        barrier.wait()
        upkeep.reconcile(app.state.sessions, settings)

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(messages()) == [(job_id, 1) for job_id in ids]


def test_several_processes_reap_once(app, client, settings, submit, worker):
    job_id = submit()["id"]
    worker.claim(job_id)
    with transaction(app.state.sessions) as session:
        session.execute(update(Attempt).values(lease_expires_at=long_ago()))
    barrier, ended = threading.Barrier(4), []

    def go():
        barrier.wait()
        ended.append(upkeep.reap(app.state.sessions, settings))

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == [0, 0, 0, 1]
    kinds = [event["kind"] for event in client.get(f"/api/v1/jobs/{job_id}/events").json()]
    assert kinds.count("requeued") == 1


def test_a_job_submitted_while_the_broker_is_away_is_rung_later(submit, app, worker, messages, reconcile, monkeypatch):
    doorbell = app.state.doorbell
    monkeypatch.setattr(doorbell, "_silent_until", time.monotonic() + 60)
    job_id = submit()["id"]
    assert messages() == []
    monkeypatch.setattr(doorbell, "_silent_until", 0.0)
    change(app, rung_at=long_ago())
    reconcile()
    assert messages() == [(job_id, 1)]


def test_the_background_thread_does_both(settings, client, submit, worker, messages, app):
    job_id = submit()["id"]
    worker.claim(job_id)
    messages()
    with transaction(app.state.sessions) as session:
        session.execute(update(Attempt).values(lease_expires_at=long_ago()))
    fast = settings.model_copy(update={"reconcile_s": 0.05, "lease_s": 0.5})
    with TestClient(create_app(fast)):
        for _ in range(1200):
            if client.get(f"/api/v1/jobs/{job_id}").json()["state"] == "queued":
                break
            time.sleep(0.05)
        change(app, not_before=now())
        for _ in range(1200):
            if found := messages():
                break
            time.sleep(0.05)
    assert found == [(job_id, 2)]


def test_an_api_that_was_away_lets_the_living_renew_their_leases_first(settings, client, submit, worker, app):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)
    with transaction(app.state.sessions) as session:
        session.execute(update(Attempt).values(lease_expires_at=long_ago()))
    with TestClient(create_app(settings.model_copy(update={"reconcile_s": 0.05}))):
        time.sleep(0.5)
        assert attempt.heartbeat().status_code == 200
    assert client.get(f"/api/v1/jobs/{job_id}").json()["state"] == "running"


def test_a_database_that_was_away_lets_the_living_renew_their_leases_first(
    settings, client, submit, worker, app, caplog
):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)
    with transaction(app.state.sessions) as session:
        session.execute(update(Attempt).values(lease_expires_at=long_ago()))
    nowhere = create_engine("postgresql+psycopg://127.0.0.1:1/nothing")
    sessions = sessionmaker(nowhere, expire_on_commit=False)
    thread = upkeep.Upkeep(sessions, settings.model_copy(update={"reconcile_s": 0.05, "lease_s": 10.0}))
    thread._reap_from = time.monotonic()  # as if it had run for long
    until = time.monotonic() + 60
    while "the database is away" not in caplog.text:
        assert time.monotonic() < until
        time.sleep(0.05)
    sessions.configure(bind=app.state.sessions.kw["bind"])
    time.sleep(0.4)  # eight rounds
    assert attempt.heartbeat().status_code == 200
    thread.close()
    nowhere.dispose()
    assert client.get(f"/api/v1/jobs/{job_id}").json()["state"] == "running"


def test_health_is_good_when_all_answer(anonymous):
    answer = anonymous.get("/api/v1/health")
    assert (answer.status_code, answer.json()["ok"]) == (200, True)


def test_workers_are_listed_with_their_jobs(client, submit, worker, worker_client, app):
    job_id = submit()["id"]
    worker.claim(job_id)
    worker.presence(busy=1)
    add_worker(worker_client, "two")
    with transaction(app.state.sessions) as session:
        session.execute(update(Worker).where(Worker.id == "two").values(last_seen_at=long_ago()))
    one, two = client.get("/api/v1/workers").json()
    assert (one["id"], one["alive"], one["jobs"], one["busy_slots"]) == ("one", True, [job_id], 1)
    assert (two["id"], two["alive"], two["jobs"]) == ("two", False, [])
