"""Downloads: verified, resumed, never over another file."""

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.app.cli.conftest import Cairn, Server
from tests.app.simulated import SimulatedWorker

WEIGHTS = b"".join(hashlib.sha256(str(index).encode()).digest() for index in range(200_000))
"""6.4 MB that do not compress and do not repeat."""


@pytest.fixture(scope="module")
def finished(server: Server, copper: str, worker: SimulatedWorker) -> int:
    """A completed job with checkpoints of two steps."""
    from tests.app.conftest import CONFIG

    with server.client() as client:
        job = client.post("/api/v1/jobs", json={"config": CONFIG}).json()["id"]
    attempt = worker.claim(job)
    attempt.metrics(0, [1, 2], **{"train/rmse_e": [1.0, 0.5], "train/rmse_f": [1.0, 0.5], "lr": [1e-3, 1e-3]})
    attempt.checkpoint(500, b"early")
    attempt.checkpoint(1000, WEIGHTS)
    attempt.end("completed", 1000)
    return int(job)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that commands run in."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def test_the_newest_checkpoint_arrives_whole_under_its_own_name(cairn: Cairn, finished: int, here: Path) -> None:
    done = cairn("download", finished)
    assert done.code == 0
    assert "verified" in done.out
    assert [path.name for path in here.iterdir()] == ["model.ckpt-1000.pt"]
    assert (here / "model.ckpt-1000.pt").read_bytes() == WEIGHTS


def test_a_step_and_all_its_files(cairn: Cairn, finished: int, here: Path) -> None:
    found = cairn("download", finished, "--step", 500, "--all-files", "-o", "deep/er", "--json").json
    assert {Path(each["path"]).name for each in found} == {"model.ckpt-500.pt", "state.pt"}
    assert (here / "deep" / "er" / "model.ckpt-500.pt").read_bytes() == b"early"
    for each in found:
        assert hashlib.sha256((here / each["path"]).read_bytes()).hexdigest() == each["sha256"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [("best.pt", "best.pt"), ("new/", "new/model.ckpt-1000.pt"), ("there", "there/model.ckpt-1000.pt")],
)
def test_output_is_a_file_or_a_directory(cairn: Cairn, finished: int, here: Path, output: str, expected: str) -> None:
    (here / "there").mkdir()
    cairn("download", finished, "--output", output)
    assert (here / expected).read_bytes() == WEIGHTS


def test_a_step_that_is_not_there_names_those_that_are(cairn: Cairn, finished: int) -> None:
    done = cairn("download", finished, "--step", 7)
    assert done.code == 1
    assert "1000, 500" in done.err


def test_nothing_is_overwritten_unless_asked_for(cairn: Cairn, finished: int, here: Path) -> None:
    (here / "model.ckpt-1000.pt").write_text("mine")
    refused = cairn("download", finished)
    assert refused.code == 1
    assert "is there already" in refused.err
    assert (here / "model.ckpt-1000.pt").read_text() == "mine"
    assert cairn("download", finished, "--force").code == 0
    assert (here / "model.ckpt-1000.pt").read_bytes() == WEIGHTS


def test_the_same_file_is_recognised(cairn: Cairn, finished: int) -> None:
    assert cairn("download", finished).code == 0
    assert cairn("download", finished).code == 0


def test_the_learning_curve_and_the_bundle(cairn: Cairn, finished: int, here: Path) -> None:
    assert cairn("download", finished, "lcurve").code == 0
    assert (here / "lcurve.out").read_text().startswith("#")
    assert cairn("download", finished, "bundle").code == 0
    assert (here / f"job-{finished}.zip").read_bytes()[:2] == b"PK"
    assert cairn("download", finished, "bundle", "--step", 5).code == 2


@dataclass
class Cable:
    """A proxy that cuts a connection after so many bytes of the answer, once for each limit, then carries everything."""

    target: str
    limits: list[int]
    ranges: list[str] = field(default_factory=list)
    """The Range header of each download request."""

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with closing(client):
                self._carry(client)

    def _carry(self, client: socket.socket) -> None:
        parts = urlsplit(self.target)
        with socket.create_connection((parts.hostname, parts.port)) as upstream:
            request = b""
            while b"\r\n\r\n" not in request:
                request += client.recv(65536)
            download = b"model.ckpt" in request.split(b"\r\n", 1)[0]
            if download:
                lines = request.decode().split("\r\n")
                self.ranges += [next((line for line in lines if line.lower().startswith("range")), "")]
            # One request per connection, so that each one passes through here.
            upstream.sendall(request.replace(b"Connection: keep-alive", b"Connection: close"))
            left = self.limits.pop(0) if download and self.limits else 1 << 40
            while left > 0 and (data := upstream.recv(min(65536, left))):
                client.sendall(data)
                left -= len(data)


@pytest.fixture
def cable(server: Server) -> Iterator[Cable]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        cable = Cable(server.url, [])
        cable.url = f"http://127.0.0.1:{listener.getsockname()[1]}"  # type: ignore[attr-defined]
        thread = threading.Thread(target=cable.serve, args=(listener,))
        thread.start()
        yield cable
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_cut_connection_is_continued_where_it_broke(
    cairn: Cairn, cable: Cable, finished: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAIRN_URL", cable.url)  # type: ignore[attr-defined]
    cable.limits = [2_000_000, 3_000_000]
    assert cairn("download", finished).code == 0
    assert (here / "model.ckpt-1000.pt").read_bytes() == WEIGHTS
    assert len(cable.ranges) == 3
    assert cable.ranges[0] == ""
    assert all("bytes=" in header for header in cable.ranges[1:])
    assert not list(here.glob(".*")), "no part is left"


def test_a_later_call_continues_what_an_earlier_one_left(cairn: Cairn, finished: int, here: Path) -> None:
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    part = here / f".model.ckpt-1000.pt.{digest[:12]}.part"
    part.write_bytes(WEIGHTS[:5_000_000])
    assert cairn("download", finished).code == 0
    assert (here / "model.ckpt-1000.pt").read_bytes() == WEIGHTS
    part.write_bytes(WEIGHTS)
    (here / "model.ckpt-1000.pt").unlink()
    assert cairn("download", finished).code == 0, "a whole part needs nothing more"


def test_what_arrived_damaged_is_not_kept(cairn: Cairn, finished: int, here: Path) -> None:
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    (here / f".model.ckpt-1000.pt.{digest[:12]}.part").write_bytes(b"\0" * 1000)
    done = cairn("download", finished, "--json")
    assert done.code == 1
    assert json.loads(done.err)["code"] == "digest-mismatch"
    assert list(here.iterdir()) == []
    assert cairn("download", finished).code == 0
