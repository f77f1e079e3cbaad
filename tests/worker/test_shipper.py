"""What a trainer writes reaches the server once, in order, whatever the network does."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from app.wire.worker import AttemptEvents
from tests.app.simulated import arrow
from tests.worker.wire import Answer, Request, Wire, problem, serving
from worker import client
from worker.fate import Fate, Shutdown
from worker.rundir import RunDir
from worker.shipper import Delivery, Shipper, Timeline


class Server:
    """Keeps what arrives as the real one does; `failures` answers are 503."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, bytes]] = []
        self.log = b""
        self.events: list[tuple[int, str]] = []
        self.environments: list[bytes] = []
        self.failures = 0
        self.refuse: str | None = None
        self.lose_answers = 0

    def __call__(self, request: Request) -> Answer:
        if self.failures:
            self.failures -= 1
            return problem(503, "unavailable")
        kind = re.split(r"[/?]", request.path)[6]
        if kind == self.refuse:
            return problem(422, "malformed")
        answer = getattr(self, f"on_{kind}")(request)
        if self.lose_answers:
            self.lose_answers -= 1
            return problem(503, "unavailable")
        assert isinstance(answer, Answer)
        return answer

    def on_metrics(self, request: Request) -> Answer:
        seq = int(request.path.rpartition("=")[2])
        if seq not in dict(self.batches):
            self.batches.append((seq, request.body))
        return Answer()

    def on_logs(self, request: Request) -> Answer:
        offset = int(request.path.rpartition("=")[2])
        self.log = self.log + request.body[len(self.log) - offset :] if offset <= len(self.log) else self.log
        return Answer(200, json.dumps({"size": len(self.log)}).encode())

    def on_events(self, request: Request) -> Answer:
        for event in AttemptEvents.model_validate_json(request.body).events:
            if not self.events or event.seq > self.events[-1][0]:
                self.events.append((event.seq, event.message))
        return Answer()

    def on_environment(self, request: Request) -> Answer:
        self.environments.append(request.body)
        return Answer()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with serving() as running:
        yield running


@pytest.fixture
def server(wire: Wire) -> Server:
    server = Server()
    wire.answer = server
    return server


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path)
    run.create()
    return run


@pytest.fixture
def shipper(wire: Wire, run: RunDir, server: Server) -> Iterator[Shipper]:
    with wire.api(tries=1) as api:
        yield Shipper(api, run, Timeline(5), "job=1 attempt=1")


def spool(run: RunDir, *numbers: int) -> None:
    for number in numbers:
        (run.metrics / f"{number:06d}.arrow").write_bytes(f"batch {number}".encode())


def spool_steps(run: RunDir, *steps: int) -> None:
    for step in steps:
        (run.metrics / f"{step:06d}.arrow").write_bytes(arrow([step], {"train/loss": [0.5]}))


def steps_of(data: bytes) -> list[int]:
    steps: list[int] = pa.ipc.open_stream(data).read_all()["step"].to_pylist()
    return steps


def deliver(shipper: Shipper) -> None:
    while shipper.ship():
        pass


def test_batches_go_in_order_and_leave_the_disk(shipper: Shipper, run: RunDir, server: Server) -> None:
    spool(run, 2, 0, 1)
    (run.metrics / ".000003.arrow.tmp").write_bytes(b"half")
    deliver(shipper)
    assert server.batches == [(n, f"batch {n}".encode()) for n in range(3)]
    assert [path.name for path in run.metrics.iterdir()] == [".000003.arrow.tmp"]


def test_a_lost_answer_doubles_nothing(shipper: Shipper, run: RunDir, server: Server) -> None:
    spool(run, 0, 1)
    run.log.write_bytes(b"hello")
    run.events.write_text(json.dumps({"kind": "phase", "message": "data"}) + "\n")
    for _ in range(3):
        server.lose_answers = 1
        with pytest.raises(client.Unreachable):
            shipper.ship()
    deliver(shipper)
    assert [seq for seq, _ in server.batches] == [0, 1]
    assert server.log == b"hello"
    assert server.events == [(5, "data")]


def test_many_batches_do_not_hold_up_the_log(shipper: Shipper, run: RunDir, server: Server) -> None:
    spool_steps(run, *range(120))
    run.log.write_bytes(b"here I am")
    assert shipper.ship()
    assert server.log == b"here I am"
    assert [seq for seq, _ in server.batches] == [0]
    deliver(shipper)
    assert [seq for seq, _ in server.batches] == [0, 50, 100]
    assert [step for _, data in server.batches for step in steps_of(data)] == list(range(120))


def test_what_was_sent_once_is_sent_again_unchanged(shipper: Shipper, run: RunDir, server: Server) -> None:
    """Else a message whose answer was lost would count a second time under another number."""
    spool_steps(run, 0, 1)
    server.lose_answers = 1
    with pytest.raises(client.Unreachable):
        shipper.ship()
    spool_steps(run, 2)
    deliver(shipper)
    assert [(seq, steps_of(data)) for seq, data in server.batches] == [(0, [0, 1]), (2, [2])]


def test_of_batches_sent_as_one_only_the_wrong_one_is_set_aside(
    shipper: Shipper, run: RunDir, server: Server, wire: Wire
) -> None:
    spool_steps(run, 0, 1, 2)
    wire.answer = lambda request: (
        problem(422, "bad-metrics") if "/metrics" in request.path and 1 in steps_of(request.body) else server(request)
    )
    deliver(shipper)
    assert [(seq, steps_of(data)) for seq, data in server.batches] == [(0, [0]), (2, [2])]


def test_a_long_log_goes_in_pieces(shipper: Shipper, run: RunDir, server: Server) -> None:
    text = b"".join(b"%d\n" % number for number in range(120_000))
    run.log.write_bytes(text)
    while shipper.ship():
        pass
    assert server.log == text


def test_a_line_that_is_still_being_written_waits(shipper: Shipper, run: RunDir, server: Server) -> None:
    first, second = (json.dumps({"kind": "k", "message": text}) for text in ("one", "two"))
    run.events.write_text(f"{first}\nnot json\n{second[:9]}")
    shipper.ship()
    run.events.write_text(f"{first}\nnot json\n{second}\n")
    shipper.ship()
    assert server.events == [(5, "one"), (6, "two")]


def test_all_events_arrive_before_the_thread_ends_many_and_large_ones(
    shipper: Shipper, run: RunDir, server: Server
) -> None:
    sizes = [600_000, *[2_000] * 299]
    lines = [json.dumps({"kind": "note", "message": str(n), "data": {"x": "y" * size}}) for n, size in enumerate(sizes)]
    run.events.write_text("".join(f"{line}\n" for line in lines))
    delivery = Delivery("shipping", shipper.ship, Fate(Shutdown()))
    delivery.finish()
    delivery.start()
    assert delivery.wait(20)
    assert [message for _, message in server.events] == [str(number) for number in range(300)]


def test_a_refused_batch_is_said_aloud_and_does_not_block(shipper: Shipper, run: RunDir, server: Server) -> None:
    spool(run, 0)
    server.refuse = "metrics"
    shipper.ship()
    assert list(run.metrics.iterdir()) == []
    assert "000000.arrow was refused" in server.events[0][1]


def test_the_environment_goes_once(shipper: Shipper, run: RunDir, server: Server) -> None:
    shipper.ship()
    run.environment.write_text('{"gpu": "none"}')
    shipper.ship()
    shipper.ship()
    assert server.environments == [b'{"gpu": "none"}']


def test_everything_arrives_after_an_outage_and_then_the_thread_ends(
    shipper: Shipper, run: RunDir, server: Server
) -> None:
    spool(run, 0, 1)
    server.failures = 2
    delivery = Delivery("ship", shipper.ship, Fate(Shutdown()))
    delivery.start()
    spool(run, 2)
    delivery.finish()
    assert delivery.wait(60)
    assert [seq for seq, _ in server.batches] == [0, 1, 2]


def test_a_superseded_attempt_ends_its_shipping(shipper: Shipper, run: RunDir, wire: Wire) -> None:
    spool(run, 0)
    wire.answer = lambda _: problem(409, "attempt-superseded", "attempt 2 runs")
    fate = Fate(Shutdown())
    delivery = Delivery("ship", shipper.ship, fate)
    delivery.start()
    assert delivery.wait(60)
    assert fate.superseded == "attempt 2 runs"
    assert fate.order == "now"


def test_a_failure_of_the_worker_itself_is_not_taken_for_delivery() -> None:
    def fail() -> bool:
        raise ZeroDivisionError("a mistake of ours")

    fate = Fate(Shutdown())
    delivery = Delivery("ship", fail, fate)
    delivery.start()
    assert delivery.wait(60)
    assert fate.broken == "ZeroDivisionError: a mistake of ours"
    assert fate.order == "checkpoint"
