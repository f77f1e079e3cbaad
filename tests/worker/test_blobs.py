"""Blobs on their way to the server: in one request, in pieces, over interruptions, and where there is no room."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.worker.wire import Answer, Request, Wire, problem, serving
from worker import blobs, client


@pytest.fixture
def wire() -> Iterator[Wire]:
    with serving() as running:
        yield running


def receiving(received: dict[str, bytearray], total: int) -> Callable[[Request], Answer]:
    """Answer as the server does that takes one blob in pieces."""

    def answer(request: Request) -> Answer:
        there = received.setdefault("blob", bytearray())
        if request.method == "HEAD":
            return Answer(200 if len(there) == total else 404, headers={"Upload-Offset": str(len(there))})
        first = int(request.headers.get("Content-Range", "bytes 0-").split()[1].split("-")[0])
        if first != len(there):
            return problem(409, "upload-offset")
        there += request.body
        return Answer(201 if len(there) == total else 202, b"{}")

    return answer


DATA = bytes(range(256)) * 10_000


def test_a_small_file_is_uploaded_in_one_request(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(DATA)
    received: dict[str, bytearray] = {}
    wire.answer = receiving(received, len(DATA))
    with wire.api() as api:
        blobs.put(api, "ab", tmp_path / "weights")
        blobs.put(api, "ab", tmp_path / "weights")
    assert [r.method for r in wire.requests] == ["HEAD", "PUT", "HEAD"]
    assert "Content-Range" not in wire.requests[1].headers
    assert received["blob"] == DATA


def test_a_large_file_goes_on_where_its_upload_was_interrupted(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "PIECE_BYTES", 1 << 20)
    (tmp_path / "weights").write_bytes(DATA)
    received: dict[str, bytearray] = {}
    server = receiving(received, len(DATA))
    away = [True]

    def flaky(request: Request) -> Answer:
        begun = len(received.get("blob", b"")) > 0
        return Answer(503) if away[0] and begun else server(request)

    wire.answer = flaky
    with wire.api(tries=1) as api:
        with pytest.raises(client.Unreachable):
            blobs.put(api, "ab", tmp_path / "weights")
        assert len(received["blob"]) == 1 << 20
        away[0] = False
        wire.requests.clear()
        blobs.put(api, "ab", tmp_path / "weights")
    assert received["blob"] == DATA
    sent = [r.headers["Content-Range"] for r in wire.requests if r.method == "PUT"]
    assert sent == [f"bytes 1048576-2097151/{len(DATA)}", f"bytes 2097152-{len(DATA) - 1}/{len(DATA)}"]


def test_a_piece_whose_answer_was_lost_is_not_sent_twice(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "PIECE_BYTES", 1 << 20)
    (tmp_path / "weights").write_bytes(DATA)
    received: dict[str, bytearray] = {}
    server = receiving(received, len(DATA))
    lost: list[int] = []

    def forgetful(request: Request) -> Answer:
        answer = server(request)
        if request.method == "PUT" and not lost:
            lost.append(1)
            return Answer(503)
        return answer

    wire.answer = forgetful
    with wire.api() as api:
        blobs.put(api, "ab", tmp_path / "weights")
    assert received["blob"] == DATA


@pytest.mark.parametrize("is_damaged", [False, True])
def test_what_has_arrived_whole_without_being_stored_is_finished_or_sent_again(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_damaged: bool
) -> None:
    monkeypatch.setattr(blobs, "PIECE_BYTES", 1 << 20)
    (tmp_path / "weights").write_bytes(DATA)
    left: dict[str, bytearray] = {"blob": bytearray(DATA)}
    server, stored = receiving({}, len(DATA)), [False]

    def killed_before_it_stored(request: Request) -> Answer:
        if "blob" not in left:
            return server(request)
        if request.method == "HEAD":
            return Answer(200 if stored[0] else 404, headers={"Upload-Offset": str(len(DATA))})
        assert request.headers["Content-Range"] == f"bytes {len(DATA) - 1}-{len(DATA) - 1}/{len(DATA)}"
        if is_damaged:
            del left["blob"]
            return problem(422, "digest-mismatch")
        stored[0] = True
        return Answer(201, b"{}")

    wire.answer = killed_before_it_stored
    with wire.api() as api:
        blobs.put(api, "ab", tmp_path / "weights")
    sent = [len(request.body) for request in wire.requests if request.method == "PUT"]
    assert sent == [1, *([1 << 20, 1 << 20, len(DATA) - (2 << 20)] if is_damaged else [])]


def test_a_server_without_room_is_told_from_one_that_is_away(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"weights")
    wire.answer = lambda r: Answer(404) if r.method == "HEAD" else problem(507, "disk-full", "The disk is full.")
    with wire.api(tries=2) as api, pytest.raises(client.ServerFull, match="disk is full"):
        blobs.put(api, "ab", tmp_path / "weights")
