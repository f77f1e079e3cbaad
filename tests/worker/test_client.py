"""The protocol's client: what is repeated, what is not, and what an answer means."""

import threading
import time
from collections.abc import Iterator

import pytest

from app.wire.worker import ClaimRequest, End, Heartbeat, Hello
from tests.worker.wire import Answer, Request, Wire, problem, serving
from worker import blobs, client

CLAIM = ClaimRequest(worker_id="w", job_id=1, attempt=1)


@pytest.fixture
def wire() -> Iterator[Wire]:
    with serving() as running:
        yield running


def failing(times: int, then: Answer) -> "Failing":
    return Failing(times, then)


class Failing:
    def __init__(self, times: int, then: Answer) -> None:
        self.left, self.then = times, then

    def __call__(self, _: Request) -> Answer:
        self.left -= 1
        return problem(503, "unavailable") if self.left >= 0 else self.then


def test_an_idempotent_write_is_repeated_until_the_server_is_back(wire: Wire) -> None:
    wire.answer = failing(2, Answer(204))
    with wire.api(tries=4) as api:
        client.metrics(api, 3, b"batch")
    assert [(r.method, r.path, r.body) for r in wire.requests] == [
        ("POST", "/api/v1/worker/attempts/7/metrics?seq=3", b"batch")
    ] * 3
    assert wire.requests[0].headers["Authorization"] == "Bearer secret"
    assert wire.requests[0].headers["Content-Type"] == "application/vnd.apache.arrow.stream"


def test_repeating_ends_and_says_what_the_server_said(wire: Wire) -> None:
    wire.answer = failing(9, Answer(204))
    with wire.api(tries=2) as api, pytest.raises(client.Unreachable, match="503"):
        client.environment(api, b"{}")
    assert len(wire.requests) == 2


def test_a_claim_is_not_repeated_when_it_may_have_arrived(wire: Wire) -> None:
    wire.answer = failing(1, Answer(204))
    with wire.api(None, tries=4) as api, pytest.raises(client.Unreachable):
        client.claim(api, CLAIM)
    assert len(wire.requests) == 1


def test_a_claim_is_repeated_while_nobody_listens() -> None:
    with serving() as gone:
        url = gone.url
    api = client.Api(client.connect(url, "t").http, "t", None, tries=2)
    started = time.monotonic()
    with api.http, pytest.raises(client.Unreachable):
        client.claim(api, CLAIM)
    assert time.monotonic() - started >= 0.05


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (problem(409, "attempt-superseded"), client.AttemptSuperseded),
        (problem(401, "unauthorized"), client.AttemptSuperseded),
        (problem(422, "bad-batch"), client.Refused),
        (problem(404, "not-found"), client.Refused),
        (Answer(404, b"<html>nginx</html>"), client.Unreachable),
        (Answer(401, b"<html>who are you?</html>"), client.Unreachable),
        (Answer(413, b"<html>nginx</html>"), client.Refused),
        (problem(500, "internal"), client.Unreachable),
    ],
)
def test_what_an_answer_to_an_attempt_means(wire: Wire, answer: Answer, meaning: type[Exception]) -> None:
    wire.answer = lambda _: answer
    with wire.api(tries=1) as api, pytest.raises(meaning):
        client.end(api, End(outcome="completed", step=1))


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("not-claimable", client.NotClaimable),
        ("unknown-worker", client.UnknownWorker),
        ("protocol-mismatch", client.ProtocolMismatch),
    ],
)
def test_what_a_conflict_means(wire: Wire, code: str, meaning: type[Exception]) -> None:
    wire.answer = lambda _: problem(409, code, "because")
    with wire.api(None) as api, pytest.raises(meaning, match="because"):
        client.hello(api, Hello(worker_id="w", name="n", host="h", engines={}, slots=1))
    assert len(wire.requests) == 1


def test_an_answer_of_something_that_is_no_cairn_is_named(wire: Wire) -> None:
    wire.answer = lambda _: Answer(200, b"<html>welcome</html>")
    with wire.api(None) as api, pytest.raises(client.Unreachable, match="did not answer with a Claim"):
        client.claim(api, CLAIM)


def test_an_answer_that_cannot_be_decoded_is_one_that_did_not_come(wire: Wire) -> None:
    wire.answer = lambda _: Answer(200, b"no gzip", {"Content-Encoding": "gzip"})
    with wire.api() as api, pytest.raises(client.Unreachable):
        client.heartbeat(api, Heartbeat(phase="training", step=1), 5.0)


def test_a_missing_blob_is_no_error(wire: Wire) -> None:
    wire.answer = lambda _: problem(404, "not-found")
    with wire.api() as api:
        assert blobs.received(api, "ab") == 0
        assert client.get_artifact(api, "statistics", "cd") is None


def test_an_attempt_that_is_over_learns_it_from_an_answer_without_a_body(wire: Wire) -> None:
    wire.answer = lambda _: Answer(409)
    with wire.api() as api, pytest.raises(client.AttemptSuperseded):
        blobs.received(api, "ab")


def test_a_hurry_ends_the_waiting(wire: Wire) -> None:
    wire.answer = failing(99, Answer(204))
    hurry = threading.Event()
    hurry.set()
    with wire.api() as plain, pytest.raises(client.Unreachable):
        client.metrics(client.Api(plain.http, "t", 7, tries=50, hurry=hurry), 0, b"")
    assert len(wire.requests) == 1


def test_connections_are_used_again(wire: Wire) -> None:
    with wire.api() as api:
        for seq in range(3):
            client.metrics(api, seq, b"")
        pool = api.http._transport._pool  # type: ignore[attr-defined]
        assert len(pool.connections) == 1
