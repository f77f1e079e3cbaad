"""A worker that says it is alive: it goes when a server of ours sends it away, and not because of a page in between."""

import signal
import threading
from pathlib import Path

import pytest

from tests.worker.wire import Answer, Request, problem, serving
from worker.runtime import Runtime
from worker.settings import WorkerSettings


@pytest.fixture
def told_to_stop():
    """Set when this process is sent SIGTERM."""
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    yield told
    signal.signal(signal.SIGTERM, before)


def test_a_page_of_a_proxy_sends_no_worker_away(tmp_path: Path, told_to_stop: threading.Event) -> None:
    answers = [
        Answer(404, b"<html>no such site"),
        Answer(200, b"<html>we are working on it"),
        Answer(403, b"<html>forbidden"),
        Answer(200, b'{"drain": false}'),
        problem(401, "unauthorized"),
    ]

    def answer(_: Request) -> Answer:
        assert not told_to_stop.is_set()
        return answers[len(wire.requests) - 1]

    with serving() as wire:
        wire.answer = answer
        settings = {"data_dir": tmp_path, "api_url": wire.url, "worker_token": "secret", "presence_s": 0.02}
        runtime = Runtime(WorkerSettings.model_validate(settings))
        with runtime.api.http:
            runtime.start_presence()
            assert told_to_stop.wait(60)
    assert len(wire.requests) == len(answers)
