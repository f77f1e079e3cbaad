"""The worker protocol, driven over HTTP by a simulated worker."""

import threading
import time
from datetime import timedelta
from typing import Annotated, Any

import pytest
from fastapi import Depends, Request
from sqlalchemy import func, select, update

from app import auth
from app.db import transaction
from app.fleet import upkeep
from app.tables import Attempt, Blob, Checkpoint, Job, MetricChunk, Worker
from app.tables.base import now
from app.wire.worker import PROTOCOL_VERSION
from tests.app.simulated import add_worker


def kinds(client, job_id: int) -> list[str]:
    return [event["kind"] for event in client.get(f"/api/v1/jobs/{job_id}/events").json()]


def show(client, job_id: int) -> dict:
    return client.get(f"/api/v1/jobs/{job_id}").json()


def expire_leases(app, settings) -> int:
    with transaction(app.state.sessions) as session:
        session.execute(update(Attempt).values(lease_expires_at=now() - timedelta(seconds=1)))
    return upkeep.reap(app.state.sessions, settings)


def make_due(app) -> None:
    with transaction(app.state.sessions) as session:
        session.execute(update(Job).values(not_before=None))


def test_a_whole_training(client, submit, worker):
    job = submit()
    attempt = worker.claim(job["id"])
    assert attempt.claim["config"] == job["resolved"]
    assert attempt.claim["submitted"] == job["submitted"]["config"]
    assert attempt.claim["datasets"][0]["digest"] == "c0" * 32
    assert attempt.claim["resume_from"] is None
    assert show(client, job["id"])["state"] == "running"
    assert attempt.environment({"torch": "2.11"}).status_code == 204
    assert attempt.heartbeat(10).json() == {"action": "continue", "how": "checkpoint", "reason": None}
    assert attempt.metrics(0, [1, 2, 3]).status_code == 204
    assert attempt.log(b"step 1\nstep 2\n").json() == {"size": 14}
    assert attempt.events({"seq": 0, "kind": "warning", "message": "few frames"}).status_code == 204
    assert attempt.checkpoint(1000).status_code == 200
    assert attempt.end("completed", 1000).json() == {"job_state": "completed"}
    shown = show(client, job["id"])
    assert shown["state"] == "completed"
    assert shown["progress"]["step"] == 1000
    assert shown["attempts"][0]["state"] == "completed"
    assert shown["attempts"][0]["environment"] == {"torch": "2.11"}
    assert shown["started_at"] <= shown["ended_at"]
    assert kinds(client, job["id"]) == ["submitted", "claimed", "phase", "warning", "checkpoint", "completed"]


def test_of_two_claims_one_wins(app, client, submit, worker, worker_client):
    job_id = submit()["id"]
    workers = [worker, *(add_worker(worker_client, f"w{number}") for number in range(5))]
    barrier, answers = threading.Barrier(len(workers)), []

    def go(one):
        barrier.wait()
        answers.append(one.try_claim(job_id))

    threads = [threading.Thread(target=go, args=[one]) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"not-claimable"}
    with app.state.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Attempt)) == 1


def test_a_more_urgent_job_goes_first_whoever_is_rung_for(app, submit, worker, monkeypatch):
    later, first, urgent = (submit(priority=priority)["id"] for priority in (0, 0, 5))
    rung = []
    monkeypatch.setattr(app.state.doorbell, "ring", lambda *ring: rung.append(ring))
    assert worker.claim(first).claim["job_id"] == urgent
    assert rung == [("deepmd", first, 1, 1)]  # its own message was used up
    assert worker.try_claim(urgent).status_code == 409
    assert worker.claim(first).claim["job_id"] == first
    assert worker.claim(later).claim["job_id"] == later


def test_a_draining_worker_that_has_not_heard_of_it_gets_nothing(app, submit, worker):
    job_id = submit()["id"]
    with transaction(app.state.sessions) as session:
        session.execute(update(Worker).values(drain=True))
    answer = worker.try_claim(job_id)
    assert (answer.status_code, answer.json()["code"]) == (409, "not-claimable")
    assert "draining" in answer.json()["message"]


@pytest.mark.parametrize(("job_id", "attempt"), [(1, 2), (1, 0), (99, 1)])
def test_what_is_not_there_cannot_be_claimed(submit, worker, job_id, attempt):
    submit()
    answer = worker.try_claim(job_id, attempt)
    assert (answer.status_code, answer.json()["code"]) == (409, "not-claimable")


def test_a_worker_claims_only_for_its_engines(submit, worker_client):
    job_id = submit()["id"]
    hello = {"worker_id": "m", "name": "m", "host": "m", "engines": {"minimind": "1"}, "slots": 1}
    worker_client.post("/api/v1/worker/hello", json=hello)
    answer = worker_client.post("/api/v1/worker/claim", json={"worker_id": "m", "job_id": job_id, "attempt": 1})
    assert answer.status_code == 409
    assert "deepmd" in answer.json()["message"]


def test_an_unknown_worker_is_told_to_introduce_itself(submit, worker_client, client):
    body = {"worker_id": "nobody", "job_id": submit()["id"], "attempt": 1}
    assert worker_client.post("/api/v1/worker/claim", json=body).json()["code"] == "unknown-worker"
    presence = {"worker_id": "nobody", "busy_slots": 0}
    assert worker_client.post("/api/v1/worker/presence", json=presence).json()["code"] == "unknown-worker"


def test_a_worker_of_another_protocol_is_refused(client, worker_client):
    hello = {"protocol": 99, "worker_id": "x", "name": "x", "host": "x", "engines": {}, "slots": 1}
    answer = worker_client.post("/api/v1/worker/hello", json=hello)
    assert (answer.status_code, answer.json()["code"]) == (409, "protocol-mismatch")
    assert answer.json()["hint"] == "Upgrade the server."


def test_a_worker_that_spoke_with_an_older_server_gets_no_work(app, submit, worker, worker_client):
    with transaction(app.state.sessions) as session:
        session.execute(update(Worker).values(protocol=PROTOCOL_VERSION - 1))
    body = {"worker_id": "one", "job_id": submit()["id"], "attempt": 1}
    assert worker_client.post("/api/v1/worker/claim", json=body).json()["code"] == "unknown-worker"
    presence = {"worker_id": "one", "busy_slots": 0}
    assert worker_client.post("/api/v1/worker/presence", json=presence).json()["code"] == "unknown-worker"


def test_tokens_open_only_their_own(client, submit, worker, worker_client):
    first, second = worker.claim(submit()["id"]), worker.claim(submit()["id"])
    stolen = {"Authorization": f"Bearer {second.claim['token']}"}
    beat = {"phase": "training", "step": 1}
    assert client.post(f"{first.path}/heartbeat", json=beat, headers=stolen).status_code == 403
    assert worker_client.post(f"{first.path}/heartbeat", json=beat).status_code == 401
    assert client.post(f"{first.path}/heartbeat", json=beat).status_code == 401
    assert client.get("/api/v1/jobs", headers=stolen).status_code == 401


WRITES = {
    "heartbeat": lambda attempt: attempt.heartbeat(5),
    "metrics": lambda attempt: attempt.metrics(7, [1]),
    "log": lambda attempt: attempt.log(b"more"),
    "events": lambda attempt: attempt.events({"seq": 9, "kind": "warning", "message": "late"}),
    "environment": lambda attempt: attempt.environment({}),
    "blob": lambda attempt: attempt.send("PUT", f"/api/v1/worker/blobs/{'0' * 64}", content=b"x"),
    "checkpoint": lambda attempt: attempt.send("POST", f"{attempt.path}/checkpoints", json={"step": 1, "files": []}),
    "end": lambda attempt: attempt.end("completed", 1000),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_superseded_attempt_writes_nothing(app, client, settings, submit, worker, write):
    job_id = submit()["id"]
    old = worker.claim(job_id)
    assert expire_leases(app, settings) == 1
    make_due(app)
    worker.claim(job_id, 2)
    before = show(client, job_id)
    answer = WRITES[write](old)
    assert (answer.status_code, answer.json()["code"]) == (409, "attempt-superseded")
    assert show(client, job_id) == before


# These find out in one statement whose token it is and that it still runs: there is no between.
AT_ONCE = {"heartbeat", "metrics", "log", "events"}


@pytest.mark.parametrize("write", sorted(WRITES.keys() - AT_ONCE - {"blob"}))
def test_an_attempt_that_ends_between_token_and_write_writes_nothing(app, client, submit, worker, write, monkeypatch):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)

    def genuine_but_late(request: Request, credentials: Annotated[Any, Depends(auth._bearer)]) -> auth.AttemptIdentity:
        identity = auth.attempt(request, credentials)
        with transaction(app.state.sessions) as session:
            session.execute(update(Attempt).values(state="lost", ended_at=now()))
        return identity

    monkeypatch.setitem(app.dependency_overrides, auth.attempt, genuine_but_late)
    before = kinds(client, job_id)
    answer = WRITES[write](attempt)
    assert (answer.status_code, answer.json()["code"]) == (409, "attempt-superseded")
    assert kinds(client, job_id) == before
    assert client.get(f"/api/v1/jobs/{job_id}/logs").text == ""


def test_a_repeated_batch_of_metrics_changes_nothing(app, submit, worker):
    attempt = worker.claim(submit()["id"])
    assert attempt.metrics(0, [1, 2]).status_code == 204
    assert attempt.metrics(0, [1, 2]).status_code == 204
    with app.state.sessions() as session:
        assert session.scalar(select(func.count()).select_from(MetricChunk)) == 1


def test_metrics_show_in_the_job(client, submit, worker):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)
    answer = attempt.metrics(0, [1, 2], **{"train/loss": [2.0, 0.5], "lr": [1e-3, float("nan")]})
    assert answer.status_code == 204, answer.text
    progress = show(client, job_id)["progress"]
    assert progress["latest"]["train/loss"] == 0.5
    assert progress["latest"]["lr"] is None


def test_metrics_that_are_no_arrow_are_refused(submit, worker):
    attempt = worker.claim(submit()["id"])
    answer = attempt.send("POST", f"{attempt.path}/metrics?seq=0", content=b"nonsense")
    assert 400 <= answer.status_code < 500


def test_a_log_is_kept_once_and_without_gaps(client, submit, worker):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)
    assert attempt.log(b"abcdef", 0).json() == {"size": 6}
    assert attempt.log(b"defghi", 3).json() == {"size": 9}
    assert attempt.log(b"abc", 0).json() == {"size": 9}
    assert attempt.log(b"xyz", 100).json() == {"size": 9}
    assert client.get(f"/api/v1/jobs/{job_id}/logs").text == "abcdefghi"


def test_events_arrive_once(client, submit, worker):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)
    events = [{"seq": number, "kind": "warning", "message": str(number)} for number in range(3)]
    attempt.events(*events[:2])
    attempt.events(*events)
    told = [
        event["message"] for event in client.get(f"/api/v1/jobs/{job_id}/events").json() if event["kind"] == "warning"
    ]
    assert told == ["0", "1", "2"]


def test_a_heartbeat_renews_the_lease_and_shows_progress(app, client, submit, worker, settings):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)
    with transaction(app.state.sessions) as session:
        session.execute(update(Attempt).values(lease_expires_at=now() - timedelta(seconds=1)))
    assert attempt.heartbeat(400, steps_per_s=20.0).status_code == 200
    assert upkeep.reap(app.state.sessions, settings) == 0
    progress = show(client, job_id)["progress"]
    assert (progress["step"], progress["phase"], progress["eta_s"]) == (400, "training", 30.0)


def test_more_writers_than_threads_do_not_wait_for_each_other_for_ever(app, submit, worker):
    attempt = worker.claim(submit()["id"])
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(attempt.heartbeat(1).status_code)) for _ in range(90)]
    with transaction(app.state.sessions) as session:
        session.execute(update(Attempt).values(log_size=0))  # holds the lock that all of them need
        for thread in threads:
            thread.start()
        time.sleep(2)
    started = time.monotonic()
    for thread in threads:
        thread.join()
    assert answers == [200] * 90
    assert time.monotonic() - started < 100  # threads that wait for each other do so for ever


# --- endings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure", ["configuration", "data", "non-finite", "out-of-memory", "disk-full", "library", "protocol"]
)
def test_what_would_fail_again_fails_the_job(client, submit, worker, failure):
    job_id = submit()["id"]
    assert worker.claim(job_id).end("failed", 17, failure).json() == {"job_state": "failed"}
    job = show(client, job_id)
    assert job["cause"]["failure"] == failure
    assert job["cause"]["message"] == f"it was {failure}"
    assert job["ended_at"]


def test_a_failure_without_a_cause_still_has_one(client, submit, worker):
    job_id = submit()["id"]
    worker.claim(job_id).end("failed", 17)
    assert "without saying why" in show(client, job_id)["cause"]["message"]


def test_done_before_the_last_step_is_a_failure(client, submit, worker):
    job_id = submit()["id"]
    assert worker.claim(job_id).end("completed", 999).json() == {"job_state": "failed"}
    assert show(client, job_id)["cause"]["failure"] == "protocol"


def test_a_worker_that_shuts_down_gives_its_job_back_for_free(app, client, submit, worker, settings):
    job_id = submit()["id"]
    for number in range(1, settings.max_attempts + 3):
        assert worker.claim(job_id, number).end("interrupted", 5).json() == {"job_state": "queued"}
    assert show(client, job_id)["attempt"] == settings.max_attempts + 2


def test_killed_trainers_are_tried_again_up_to_a_limit(app, client, submit, worker, settings):
    job_id = submit()["id"]
    for number in range(1, settings.max_attempts):
        assert worker.claim(job_id, number).end("interrupted", 5, "killed").json() == {"job_state": "queued"}
        assert worker.try_claim(job_id, number + 1).status_code == 409  # it pauses first
        make_due(app)
    assert worker.claim(job_id, settings.max_attempts).end("interrupted", 5, "killed").json() == {"job_state": "failed"}
    cause = show(client, job_id)["cause"]
    assert cause["failure"] == "killed"
    assert "5 executions in a row" in cause["message"]


def test_a_worker_that_stops_unasked_is_not_trusted_for_ever(app, client, submit, worker, settings):
    job_id = submit()["id"]
    for number in range(1, settings.max_attempts + 1):
        state = worker.claim(job_id, number).end("stopped", 5).json()["job_state"]
        make_due(app)
    assert state == "failed"
    assert "nobody had asked" in show(client, job_id)["cause"]["message"]


def test_progress_forgives_earlier_kills(app, client, submit, worker, settings):
    job_id = submit()["id"]
    for number in range(1, settings.max_attempts + 3):
        attempt = worker.claim(job_id, number)
        assert attempt.checkpoint(100 * number).status_code == 200
        assert attempt.end("interrupted", 5, "killed").json() == {"job_state": "queued"}
        make_due(app)


def test_the_pause_before_the_next_try_doubles(app, submit, worker):
    job_id = submit()["id"]
    pauses = []
    for number in (1, 2, 3):
        worker.claim(job_id, number).end("interrupted", 5, "killed")
        with app.state.sessions() as session:
            pauses.append(round((session.get_one(Job, job_id).not_before - now()).total_seconds()))
        make_due(app)
    assert pauses == [5, 10, 20]


def test_an_attempt_that_is_silent_is_lost_and_its_job_goes_on(app, client, submit, worker, settings):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)
    attempt.heartbeat(250)
    attempt.checkpoint(200)
    assert expire_leases(app, settings) == 1
    job = show(client, job_id)
    assert job["state"] == "queued"
    assert job["progress"]["step"] == 200
    assert job["attempts"][0]["state"] == "lost"
    assert job["attempts"][0]["cause"]["failure"] == "host-lost"
    make_due(app)
    again = worker.claim(job_id, 2)
    assert again.claim["resume_from"]["step"] == 200
    assert {file["role"] for file in again.claim["resume_from"]["files"]} == {"checkpoint", "state"}
    assert show(client, job_id)["attempts"][1]["start_step"] == 200
    assert kinds(client, job_id)[-2:] == ["requeued", "claimed"]


def test_a_resumed_attempt_can_read_its_checkpoint(app, submit, worker, settings):
    job_id = submit()["id"]
    worker.claim(job_id).checkpoint(200, b"the weights")
    expire_leases(app, settings)
    make_due(app)
    again = worker.claim(job_id, 2)
    files = {file["role"]: file for file in again.claim["resume_from"]["files"]}
    assert again.send("GET", f"/api/v1/worker/blobs/{files['checkpoint']['sha256']}").content == b"the weights"


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(app, submit, worker, settings):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)
    attempt.checkpoint(200)
    newest = attempt.checkpoint(400).json()
    path = app.state.blobs.backend.path(newest["files"][0]["sha256"])
    path.chmod(0o644)
    path.write_bytes(b"not what it was")
    attempt.end("interrupted", 400)
    assert worker.claim(job_id, 2).claim["resume_from"]["step"] == 200


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_at_once(client, submit, worker):
    job_id = submit()["id"]
    assert client.post(f"/api/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    assert worker.try_claim(job_id).status_code == 409
    assert client.post(f"/api/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    assert kinds(client, job_id).count("cancelled") == 1


def test_a_running_job_is_asked_to_stop(client, submit, worker):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)
    body = {"reason": "wrong data"}
    assert client.post(f"/api/v1/jobs/{job_id}/cancel", json=body).json()["state"] == "stopping"
    stop = {"action": "stop", "how": "checkpoint", "reason": "wrong data"}
    assert attempt.heartbeat(3).json() == stop
    assert attempt.heartbeat(3).json() == stop
    client.post(f"/api/v1/jobs/{job_id}/cancel", json={"now": True, "reason": "quick"})
    assert attempt.heartbeat(3).json() == {"action": "stop", "how": "now", "reason": "quick"}
    assert attempt.metrics(0, [1]).status_code == 204
    assert attempt.checkpoint(3).status_code == 200
    assert attempt.end("stopped", 3).json() == {"job_state": "cancelled"}
    job = show(client, job_id)
    assert (job["state"], job["stop_reason"]) == ("cancelled", "quick")


@pytest.mark.parametrize("outcome", ["stopped", "interrupted", "failed"])
def test_a_stopping_job_is_cancelled_however_it_ends(client, submit, worker, outcome):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)
    client.post(f"/api/v1/jobs/{job_id}/cancel")
    assert attempt.end(outcome, 3).json() == {"job_state": "cancelled"}


def test_a_stopping_job_whose_worker_dies_is_cancelled(app, client, submit, worker, settings):
    job_id = submit()["id"]
    worker.claim(job_id)
    client.post(f"/api/v1/jobs/{job_id}/cancel")
    expire_leases(app, settings)
    assert show(client, job_id)["state"] == "cancelled"


def test_a_job_that_completes_in_spite_of_it_is_completed(client, submit, worker):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)
    client.post(f"/api/v1/jobs/{job_id}/cancel")
    assert attempt.end("completed", 1000).json() == {"job_state": "completed"}
    answer = client.post(f"/api/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "job-finished")


def test_a_job_that_does_not_exist_cannot_be_cancelled(client):
    assert client.post("/api/v1/jobs/5/cancel").status_code == 404


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_registered_twice_is_one(client, submit, worker):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)
    first, again = attempt.checkpoint(200).json(), attempt.checkpoint(200).json()
    assert first == again
    assert client.get(f"/api/v1/jobs/{job_id}/checkpoints").json() == [first | {"kept": ["newest"]}]
    other = attempt.checkpoint(200, b"other weights of the same step")
    assert (other.status_code, other.json()["code"]) == (409, "checkpoint-differs")


def test_a_checkpoint_whose_blob_is_missing_is_refused(submit, worker):
    attempt = worker.claim(submit()["id"])
    file = {"name": "model.pt", "role": "checkpoint", "sha256": "0" * 64, "md5": "0" * 32, "size": 3}
    answer = attempt.send("POST", f"{attempt.path}/checkpoints", json={"step": 1, "files": [file]})
    assert (answer.status_code, answer.json()["code"]) == (404, "blob-missing")


@pytest.mark.parametrize(("key", "value"), [("name", "../model.pt"), ("name", ".."), ("sha256", "..//etc")])
def test_a_checkpoint_whose_files_lead_elsewhere_is_refused(submit, worker, key, value):
    attempt = worker.claim(submit()["id"])
    file = {"name": "model.pt", "role": "checkpoint", **attempt.upload(b"abc"), key: value}
    answer = attempt.send("POST", f"{attempt.path}/checkpoints", json={"step": 1, "files": [file]})
    assert (answer.status_code, answer.json()["pointer"][:6]) == (422, "/files")


def test_a_checkpoint_of_another_size_than_announced_is_refused(submit, worker):
    attempt = worker.claim(submit()["id"])
    file = {"name": "model.pt", "role": "checkpoint", **attempt.upload(b"abc"), "size": 4}
    answer = attempt.send("POST", f"{attempt.path}/checkpoints", json={"step": 1, "files": [file]})
    assert (answer.status_code, answer.json()["code"]) == (409, "checkpoint-differs")


def test_only_the_newest_checkpoints_are_kept_with_their_bytes(app, client, submit, worker):
    job_id = submit(checkpoints={"keep_last": 2})["id"]
    attempt = worker.claim(job_id)
    shas = [attempt.checkpoint(step).json()["files"][0]["sha256"] for step in (100, 200, 300, 400)]
    assert [row["step"] for row in client.get(f"/api/v1/jobs/{job_id}/checkpoints").json()] == [400, 300]
    assert [app.state.blobs.intact(sha) for sha in shas] == [False, False, True, True]
    with app.state.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Checkpoint)) == 2
        assert set(shas[:2]) & set(session.scalars(select(Blob.sha256))) == set()


def test_bytes_that_something_else_refers_to_stay(app, client, submit, worker):
    job_id = submit(checkpoints={"keep_last": 2})["id"]
    attempt, other = worker.claim(job_id), worker.claim(submit()["id"])
    shared = other.checkpoint(50, b"the same weights").json()["files"][0]["sha256"]
    for step, data in ((100, b"the same weights"), (200, b"2"), (300, b"3")):
        attempt.checkpoint(step, data)
    assert len(client.get(f"/api/v1/jobs/{job_id}/checkpoints").json()) == 2
    assert app.state.blobs.intact(shared)


def test_a_checkpoint_is_downloaded_with_its_digest(client, submit, worker):
    job_id = submit()["id"]
    row = worker.claim(job_id).checkpoint(200, b"0123456789").json()
    path = f"/api/v1/jobs/{job_id}/checkpoints/{row['id']}/model.ckpt-200.pt"
    whole = client.get(path)
    assert whole.content == b"0123456789"
    assert row["files"][0]["sha256"] in whole.headers["ETag"]
    assert "sha-256=" in whole.headers["Repr-Digest"]
    assert client.get(path, headers={"Range": "bytes=2-4"}).content == b"234"
    assert client.get(path, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    assert client.head(path).headers["Content-Length"] == "10"
    assert client.get(path.replace("model", "nothing")).status_code == 404
