"""What a process that looks into strangers' files cannot do any more."""

import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker import sandbox
from worker.children import Forkserver


@pytest.fixture
def forkserver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Forkserver]:
    monkeypatch.setenv("CAIRN_WORKER_TOKEN", "hush")
    monkeypatch.setenv("CAIRN_REDIS_URL", "redis://:hush@broker")
    server = Forkserver(["tests.worker.victims"], threads=1)
    server.start()
    yield server
    server.close()


def test_memory_files_network_and_secrets_are_out_of_reach(forkserver: Forkserver, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        child = forkserver.spawn("tests.worker.victims:confined", tmp_path, {"PORT": port}, threading.Event())
        assert child.wait(120)
    said = dict(line.split(": ", 1) for line in (tmp_path / "log.txt").read_text().splitlines())
    assert said["memory"] == "MemoryError"
    assert said["little memory"] == "done"
    assert said["file"] == "OSError"
    assert said["initial environment"] == "False"
    assert said["no new privileges"] == "True"
    assert said["network"] == ("OSError" if _networks_can_be_left() else "done")


def _networks_can_be_left() -> bool:
    tries = (["unshare", "--net", "true"], ["unshare", "--user", "--net", "true"])
    return any(subprocess.run(command, capture_output=True, check=False).returncode == 0 for command in tries)


def test_processor_time_ends(forkserver: Forkserver, tmp_path: Path) -> None:
    child = forkserver.spawn("tests.worker.victims:burn", tmp_path, {}, threading.Event())
    assert child.wait(120)
    assert child.exit_code == -signal.SIGXCPU


def test_secrets_are_told_by_their_names() -> None:
    plain = {
        "PATH": "/bin",
        "DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
        "CAIRN_DATA_DIR": "/data",
        "TOKENIZERS_PARALLELISM": "1",
    }
    secret = {
        "CAIRN_WORKER_TOKEN": "a", "CAIRN_REDIS_URL": "b", "AWS_SECRET_ACCESS_KEY": "c", "PGPASSWORD": "d",
    }  # fmt: skip
    assert sandbox.without_secrets(plain | secret) == plain
