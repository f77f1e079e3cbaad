import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from app.jobs import stream
from app.jobs.stream import Listener, Update, Watcher
from app.keys import token_file
from app.main import create_app
from tests.conftest import counted_queries

WAIT_S = 30.0


@pytest.fixture
def live(settings, client) -> Iterator[httpx.Client]:
    """A second server on the same database, which can stream. (The test client waits for the end of a response.)"""
    app = create_app(settings, background=False)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended at its start"
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    headers = {"Authorization": client.headers["Authorization"]}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=WAIT_S) as client:
        yield client
    server.should_exit = True
    thread.join()


def messages(response: httpx.Response) -> Iterator[dict]:
    """Yield the messages of a stream."""
    fields: dict = {}
    for line in response.iter_lines():
        if line.startswith(":"):
            yield {"comment": line}
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = json.loads(value) if name == "data" else value
        else:
            if "data" in fields:
                yield fields
            fields = {}


def until(found: Iterator[dict], *, event: str, **wanted) -> dict:
    """Return the first message of a kind whose data has these values."""
    for message in found:
        data = message.get("data", {})
        if message.get("event") == event and all(data.get(key) == value for key, value in wanted.items()):
            return message
    raise AssertionError("the stream ended")


def test_a_job_is_told_as_it_is_and_as_it_changes(live, submit, worker):
    job_id, other_id = submit()["id"], submit()["id"]
    with live.stream("GET", f"/api/v1/events?job={job_id}") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        found = messages(response)
        first = next(found)
        assert (first["event"], first["data"]["id"], first["data"]["state"]) == ("job", job_id, "queued")
        worker.claim(other_id)
        attempt = worker.claim(job_id)
        claimed = until(found, event="event", kind="claimed")
        assert claimed["data"]["job_id"] == job_id
        assert claimed["id"] == str(claimed["data"]["id"])
        until(found, event="job", state="running")
        attempt.heartbeat(123)
        assert until(found, event="job")["data"]["progress"]["step"] == 123


def test_a_version_that_was_seen_already_is_not_told_again(live, submit, worker):
    job_id = submit()["id"]
    seen = live.get(f"/api/v1/jobs/{job_id}").headers["etag"].strip('"').rpartition("-")[2]
    with live.stream("GET", f"/api/v1/events?job={job_id}&seen={seen}") as response:
        worker.claim(job_id)
        assert until(messages(response), event="job")["data"]["state"] == "running"
    with live.stream("GET", f"/api/v1/events?job={job_id}&seen={seen}") as response:
        assert next(messages(response))["data"]["state"] == "running"


def test_all_jobs_are_told_of_and_old_events_are_not(live, submit, worker):
    old_id = submit()["id"]
    with live.stream("GET", "/api/v1/events") as response:
        found = messages(response)
        time.sleep(1)
        new_id = submit()["id"]
        message = until(found, event="event")
        assert (message["data"]["job_id"], message["data"]["kind"]) == (new_id, "submitted")
        worker.claim(old_id)
        assert until(found, event="event", job_id=old_id)["data"]["kind"] == "claimed"


def test_a_listener_that_comes_back_hears_what_it_missed_once(live, client, submit, worker):
    job_id = submit()["id"]
    worker.claim(job_id)
    ids = [event["id"] for event in client.get(f"/api/v1/jobs/{job_id}/events").json()]
    headers = {"Last-Event-ID": str(ids[0])}
    with live.stream("GET", f"/api/v1/events?job={job_id}", headers=headers) as response:
        found = messages(response)
        assert until(found, event="event")["data"]["kind"] == "claimed"
        client.post(f"/api/v1/jobs/{job_id}/cancel")
        assert until(found, event="event")["data"]["kind"] == "stop-requested"


def test_nothing_is_lost_while_the_poller_takes_its_first_look(live, client, submit, worker, monkeypatch):
    begin = Watcher.begin

    def slowly(watcher):
        time.sleep(0.5)
        begin(watcher)

    monkeypatch.setattr(Watcher, "begin", slowly)
    job_id = submit()["id"]
    with live.stream("GET", f"/api/v1/events?job={job_id}") as response:
        found = messages(response)
        assert until(found, event="job")["data"]["state"] == "queued"
        client.post(f"/api/v1/jobs/{job_id}/cancel")
        assert until(found, event="event")["data"]["kind"] == "cancelled"


def test_a_silent_stream_is_kept_alive(live, submit, monkeypatch):
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.1)
    with live.stream("GET", "/api/v1/events") as response:
        assert next(messages(response)) == {"comment": ": still here"}


def test_a_stream_needs_a_token_and_a_job_that_exists(live):
    assert live.get("/api/v1/events?job=99").status_code == 404
    assert live.get("/api/v1/events", headers={"Authorization": "Bearer x"}).status_code == 401


def test_looking_costs_one_query_when_nothing_changes(app, submit):
    submit()
    watcher = Watcher(app.state.sessions)
    watcher.begin()
    with counted_queries(app.state.sessions.kw["bind"]) as statements:
        assert watcher.look() == []
    assert len(statements) == 1


def test_a_listener_that_is_too_slow_is_cut_off():
    listener = Listener(None)
    heard = [listener.hear(Update("job", 1, "{}")) for _ in range(stream.BACKLOG + 1)]
    assert heard == [True] * stream.BACKLOG + [False]


def test_an_open_stream_does_not_hold_up_the_shutdown(settings, client, free_port):
    token = token_file(settings, "user").read_text().strip()
    environment = os.environ | {
        "CAIRN_DATA_DIR": str(settings.data_dir),
        "CAIRN_DATABASE_URL": settings.effective_database_url,
        "CAIRN_REDIS_URL": settings.effective_redis_url,
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app", "--port", str(free_port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as server:
        address = f"http://127.0.0.1:{free_port}/api/v1"
        for _ in range(600):
            try:
                httpx.get(f"{address}/version", timeout=WAIT_S)
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.stream("GET", f"{address}/events", headers=headers, timeout=WAIT_S) as response:
            lines = response.iter_lines()
            assert next(lines) == "retry: 2000"
            server.send_signal(signal.SIGTERM)
            started = time.monotonic()
            assert list(lines) == [""]
        server.wait(WAIT_S)
        assert time.monotonic() - started < WAIT_S
        assert server.stderr is not None
        assert b"Traceback" not in server.stderr.read()
