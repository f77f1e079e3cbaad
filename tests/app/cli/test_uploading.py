"""Large files from the command line, over lines that break: against a real server, through a relay that counts bytes."""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli import uploading
from tests.app.cli.conftest import Cairn, Server
from tests.conftest import sha256

PIECE = 1 << 16
MEBIBYTE = 1 << 20


class Relay:
    """Forwards to a server, one connection at a time, and breaks a connection that has carried `most` bytes to it."""

    def __init__(self, server: Server) -> None:
        self._target = ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.carried = 0
        self.most: int | None = None
        self.enough = threading.Event()
        """Set once `most` bytes were carried."""
        self.hangs = False
        """Whether the connection then carries nothing more instead of breaking."""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self.most = 0
        with socket.create_connection(self._listener.getsockname()):  # whoever waits for a connection gets this one
            pass
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while self.most != 0:
            near, _ = self._listener.accept()
            with near, socket.create_connection(self._target) as far:
                self._carry(near, far)

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        carried = 0
        while True:
            for ready in select.select([near, far], [], [], 5)[0]:
                data = ready.recv(1 << 16) if not self._stuck(carried) else b""
                if not data:
                    return
                (far if ready is near else near).sendall(data)
                carried += len(data) if ready is near else 0
                self.carried += len(data) if ready is near else 0

    def _stuck(self, carried: int) -> bool:
        if self.most is None or carried <= self.most:
            return False
        self.enough.set()
        while self.hangs:
            time.sleep(0.01)
        return True


@pytest.fixture
def relay(server: Server, cairn: Cairn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """A line to the server that breaks when told to; pieces are small, and nobody waits long."""
    relay = Relay(server)
    monkeypatch.setenv("CAIRN_URL", relay.url)
    monkeypatch.setattr(uploading, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(uploading, "PAUSES_S", (0.01, 0.01, 0.01))
    yield relay
    relay.hangs = False
    relay.close()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of many pieces."""
    path = tmp_path / "weights.pt"
    path.write_bytes(os.urandom(MEBIBYTE))
    return path


def test_an_upload_goes_on_over_a_line_that_breaks(cairn: Cairn, relay: Relay, weights: Path) -> None:
    relay.most = 3 * PIECE
    done = cairn("model", "add", weights, "--json")
    assert done.code == 0, done.err
    assert done.json["sha256"] == sha256(weights.read_bytes())
    assert relay.enough.is_set()
    assert relay.carried < 1.7 * MEBIBYTE  # of each connection what had come of one piece was lost


def test_a_line_that_stays_broken_ends_the_command_and_the_next_one_goes_on(
    cairn: Cairn, relay: Relay, weights: Path
) -> None:
    whole = weights.stat().st_size
    relay.most = whole // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploading, "PAUSES_S", ())
        done = cairn("model", "add", weights)
    assert done.code == 3
    assert "are at the server" in done.err
    assert "Run the same command again" in done.err
    relay.most, before = None, relay.carried
    assert cairn("model", "add", weights).code == 0
    assert relay.carried - before < 0.7 * whole


def test_after_ctrl_c_the_same_command_goes_on(cairn: Cairn, relay: Relay, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(os.urandom(24 * MEBIBYTE))  # of pieces as large as they are
    relay.most, relay.hangs = 18 * MEBIBYTE, True
    command = [sys.executable, "-m", "app.cli.main", "model", "add", str(weights)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert relay.enough.wait(120)
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=120)
    assert process.returncode == 130, words
    assert "16.0 MiB of 24.0 MiB are at the server" in words
    relay.most, relay.hangs, before = None, False, relay.carried
    assert subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert relay.carried - before < 9 * MEBIBYTE


def test_a_large_directory_is_sent_as_the_same_bytes_each_time(
    cairn: Cairn, relay: Relay, systems: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "PIECE_BYTES", 700)
    relay.most = 6000
    done = cairn("dataset", "add", systems, "--name", "by-pieces", "--json")
    assert (done.code, done.json["summary"]["frames"]) == (0, 4), done.err
    assert relay.enough.is_set()
    assert cairn("dataset", "add", systems, "--name", "by-pieces", "--json").json["version"] == 1


def test_large_data_go_ahead_of_their_job(
    cairn: Cairn, relay: Relay, systems: Path, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "PIECE_BYTES", 3000)
    small = tmp_path / "small"
    shutil.copytree(systems / "md", small / "held-out")
    (small / "held-out" / "set.000" / "virial.npy").unlink()  # which makes it the smaller one
    config["training"]["training_data"]["systems"] = ["../data/md"]
    config["training"]["validation_data"] = {"systems": ["../data/held-out"], "batch_size": 1}
    input_json = tmp_path / "input.json"
    input_json.write_text(json.dumps(config))
    data = ["--data", f"ahead={systems}", "--data", f"along={small}"]
    done = cairn("submit", input_json, *data, "--json", "--on-existing", "new")
    assert done.code == 0, done.err
    assert sorted(done.json["datasets"]) == ["dataset:ahead@1", "dataset:along@1"]


def test_an_answer_that_is_lost_is_not_taken_for_a_missing_upload(
    cairn: Cairn, relay: Relay, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = uploading.Api.post, []

    def loses_the_first(api: uploading.Api, path: str, **options: Any) -> Any:
        answer = real(api, path, **options)
        calls.append(path)
        if len(calls) == 1:
            raise uploading.Failure("the line broke", code="server-unreachable", exit_code=3)
        return answer

    monkeypatch.setattr(uploading.Api, "post", loses_the_first)
    done = cairn("model", "add", weights, "--name", "taken")
    assert done.code == 3
    assert "its answer was lost" in done.err
    assert cairn("model", "ls", "--name", "taken", "--json").json[0]["version"] == 1
