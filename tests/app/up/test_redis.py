"""The private Redis: place of the socket, and a real server on it."""

import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.up import redis
from app.up.redis import LONGEST_SOCKET_PATH


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path leaves room for a socket, unlike pytest's own under xdist."""
    with tempfile.TemporaryDirectory(prefix="cairn") as directory:
        yield Path(directory)


def test_the_socket_lies_in_the_data_directory_when_its_path_is_short(short: Path) -> None:
    preferred = short / "run" / "redis.sock"
    assert redis.socket_path(preferred) == preferred
    assert stat.S_IMODE(preferred.parent.stat().st_mode) == 0o700


@pytest.fixture
def deep(short: Path) -> Path:
    return short / ("d" * LONGEST_SOCKET_PATH) / "run" / "redis.sock"


def test_a_long_path_gives_a_short_private_one(deep: Path, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    found = redis.socket_path(deep)
    assert found.is_relative_to(short)
    assert len(str(found)) <= LONGEST_SOCKET_PATH + 7
    assert stat.S_IMODE(found.parent.stat().st_mode) == 0o700
    assert redis.socket_path(deep) == found, "the same data directory finds its socket again"
    assert redis.socket_path(deep.parent / "other.sock") != found


def test_a_directory_that_somebody_else_put_there_is_refused(
    deep: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    place = redis.socket_path(deep).parent
    place.rmdir()
    place.symlink_to(short)
    with pytest.raises(PermissionError, match="not a directory of this user"):
        redis.socket_path(deep)


def test_it_answers_on_its_socket_only_and_keeps_what_it_is_told(short: Path, tmp_path: Path) -> None:
    binary = redis.find_binary()
    assert binary is not None
    address = redis.socket_path(short / "run" / "redis.sock")
    assert not redis.answers(address)
    for round_ in ("first", "second"):
        process = subprocess.Popen(redis.command(binary, address, tmp_path / "redis"), stdout=subprocess.DEVNULL)
        try:
            _wait_for(address)
            if round_ == "first":
                _command(address, "RPUSH queue doorbell")
            assert b"doorbell" in _command(address, "LRANGE queue 0 -1")
            assert b"noeviction" in _command(address, "CONFIG GET maxmemory-policy")
            assert b"$1\r\n0\r\n" in _command(address, "CONFIG GET port")
        finally:
            process.terminate()
            process.wait()
    assert stat.S_IMODE(address.parent.stat().st_mode) == 0o700


def _wait_for(address: Path) -> None:
    deadline = time.monotonic() + 60
    while not redis.answers(address):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _command(address: Path, command: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(address))
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(4096)
