"""Many requests at the same moment: all are answered, and nobody waits for what only those behind him could give back."""

import asyncio
import fcntl
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from anyio import to_thread

from app.datasets import ingest

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def ask(client, count: int, *request, **options) -> Counter[int]:
    """Send the same request so often at once, and return how many answers of each status came."""
    transport = httpx.ASGITransport(client.app)
    options = {"headers": dict(client.headers), **options}
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as many:
        answers = await asyncio.gather(*(many.request(*request, **options) for _ in range(count)))
    return Counter(answer.status_code for answer in answers)


@contextmanager
def under_way(client, count: int, *request, **options):
    """Let requests begin that cannot be answered before the end of the block; yields what then is answered."""

    async def begin() -> asyncio.Task:
        return asyncio.create_task(ask(client, count, *request, **options))

    async def end(task: asyncio.Task) -> Counter[int]:
        return await task

    statuses: Counter[int] = Counter()
    task = client.portal.call(begin)
    yield statuses
    statuses.update(client.portal.call(end, task))


def busy_threads(client) -> int:
    """Return how many threads stay busy: a slow machine may need longer to look at who asks, and gives those back."""

    async def look() -> int:
        return to_thread.current_default_thread_limiter().borrowed_tokens

    time.sleep(0.5)  # all that could take a thread has one
    until = time.monotonic() + 20
    while (busy := client.portal.call(look)) and time.monotonic() < until:
        time.sleep(0.05)
    return busy


def test_more_readers_than_connections_and_threads_are_all_answered(client):
    began = time.monotonic()
    assert client.portal.call(ask, client, 150, "GET", "/api/v1/workers") == {200: 150}
    assert time.monotonic() - began < 20, "they waited for each other until a timeout of 30 s freed some"


@contextmanager
def intakes_occupied():
    for _ in range(2):
        ingest._at_once.acquire()
    try:
        yield
    finally:
        for _ in range(2):
            ingest._at_once.release()


def test_data_that_wait_to_be_read_keep_nobody_from_writing(client, worker):
    query = {"name": "text", "filename": "text.jsonl", "engine": "minimind"}
    upload = under_way(client, 3, "POST", "/api/v1/datasets", params=query, content=b"nothing")
    with upload as statuses, intakes_occupied():
        assert busy_threads(client) == 0
        assert worker.bye().status_code == 204
    assert statuses == {422: 3}


def test_pieces_of_a_blob_that_is_being_hashed_keep_nobody_from_writing(client, worker, submit):
    attempt = worker.claim(submit()["id"])
    sha256 = "0" * 64
    headers = {"Authorization": f"Bearer {attempt.claim['token']}", "Content-Range": "bytes 0-3/8"}
    with (client.app.state.blobs.scratch / f"partial-{sha256}").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # as whoever hashes it does
        piece = "PUT", f"/api/v1/worker/blobs/{sha256}"
        with under_way(client, 10, *piece, headers=headers, content=b"1234") as statuses:
            assert busy_threads(client) == 0
            assert worker.bye().status_code == 204
            fcntl.flock(other, fcntl.LOCK_UN)
    assert statuses == {202: 1, 409: 9}


@contextmanager
def reading_slowly(store, monkeypatch):
    """Let the store know no hashes, as after a restart, and no byte be read before the event that it yields."""
    go_on, read = threading.Event(), store.backend.read

    def slowly(*arguments):
        assert go_on.wait(120)
        yield from read(*arguments)

    monkeypatch.setattr(store.backend, "read", slowly)
    store._hashed.clear()
    try:
        yield go_on
    finally:
        go_on.set()


def test_blobs_that_are_hashed_after_a_restart_keep_nobody_from_writing(client, worker, submit, monkeypatch):
    running, waiting = worker.claim(submit(priority=5)["id"]), worker.claim(submit(seed=2)["id"])
    for attempt in (running, waiting):
        assert attempt.checkpoint(100).status_code == 200
    waiting.end("interrupted", 100)
    token = {"Authorization": f"Bearer {running.claim['token']}"}
    blob = running.upload(b"statistics")
    files = [{"name": "a.pt", "role": "checkpoint", **blob}]
    claim = {"worker_id": worker.id, "job_id": waiting.claim["job_id"], "attempt": 2, "slots": 1}
    artifact = {"blob_sha256": blob["sha256"], "size": blob["size"]}
    sent = [
        ("POST", "/api/v1/worker/claim", dict(worker.client.headers), claim),
        ("PUT", "/api/v1/worker/artifacts/statistics/abc", token, artifact),
        ("POST", f"{running.path}/checkpoints", token, {"step": 200, "files": files}),
        ("POST", f"{running.path}/files", token, {"name": "a", "media_type": "text/plain", **blob}),
    ]
    with reading_slowly(client.app.state.blobs, monkeypatch) as go_on, ExitStack() as requests:
        answers = [
            requests.enter_context(under_way(client, 3, method, path, headers=headers, json=body))
            for method, path, headers, body in sent
        ]
        assert busy_threads(client) == 0
        assert worker.bye().status_code == 204
        go_on.set()
    assert answers == [{200: 1, 409: 2}, {200: 3}, {200: 3}, {204: 3}]
