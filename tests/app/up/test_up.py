"""`cairn up` as a person runs it: real Redis, real API; the worker has tests of its own."""

import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).parents[3]


@dataclass
class Running:
    """A `cairn up` and what it printed."""

    process: subprocess.Popen[bytes]
    printed: str = field(default="")

    def wait_for(self, words: str, seconds: float = 180) -> str:
        """Read on until `words` were printed."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while not re.search(words, self.printed):
            assert time.monotonic() < deadline, f"{words!r} was not printed:\n{self.printed}"
            if select.select([self.process.stdout], [], [], 0.1)[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                assert data, f"it ended without {words!r}:\n{self.printed}"
                self.printed += data.decode()
        return self.printed

    def children(self) -> dict[str, int]:
        """Return the process ids of redis and api."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            line = " ".join(child.cmdline())
            found["redis" if "redis-server" in line else "api"] = child.pid
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=180)
        self.printed += out.decode()
        return self.process.returncode


Start = Callable[..., Running]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory; its path is short, so that Redis' socket lies in it."""
    with tempfile.TemporaryDirectory(prefix="cairn") as directory:
        yield Path(directory) / "data"


@pytest.fixture
def start(data_dir: Path) -> Iterator[Start]:
    started: list[Running] = []

    def start(*arguments: str, cwd: Path = ROOT, **environment: str) -> Running:
        command = [
            str(Path(sys.executable).with_name("cairn")),
            "up",
            "--no-worker",
            "--data-dir",
            str(data_dir),
            *arguments,
        ]
        env = {name: value for name, value in os.environ.items() if not name.startswith("CAIRN_")} | environment
        process = subprocess.Popen(
            command, cwd=cwd, env={"CAIRN_PORT": "0", **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        started.append(Running(process))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.communicate()
        assert running.process.stdout is not None
        running.process.stdout.close()


def url_of(running: Running) -> str:
    found = re.search(r"(http://\S+)/login\?code=", running.wait_for("Ctrl-C stops everything"))
    assert found is not None
    return found[1]


def test_first_start_makes_everything_and_the_printed_link_signs_in(start: Start, data_dir: Path) -> None:
    running = start()
    url = url_of(running)
    link = re.search(r"http://\S+code=\S+", running.printed)
    assert link is not None
    with httpx.Client(follow_redirects=True) as browser:
        assert browser.get(link[0]).status_code == 200
    token = (data_dir / "user.token").read_text().strip()
    health = httpx.get(f"{url}/api/v1/health").json()
    assert health == {"ok": True, "database": True, "redis": True}
    assert httpx.get(f"{url}/api/v1/whoami", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    for name in ("user.token", "worker.token"):
        assert stat.S_IMODE((data_dir / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert {path.name for path in (data_dir / "logs").iterdir()} == {"redis.log", "api.log"}
    assert running.stop() == 0


def test_it_stops_everything_in_order_and_leaves_nothing(start: Start, data_dir: Path) -> None:
    running = start()
    url_of(running)
    children = running.children()
    assert set(children) == {"redis", "api"}
    assert running.stop(signal.SIGINT) == 0
    assert running.printed.rstrip().endswith("Stopped.")
    assert not any(psutil.pid_exists(pid) for pid in children.values())
    assert not (data_dir / "run" / "url").exists()


def test_a_second_one_on_the_same_data_is_refused(start: Start, data_dir: Path) -> None:
    first = start()
    url = url_of(first)
    second = start()
    out, _ = second.process.communicate(timeout=180)
    assert second.process.returncode == 1
    assert f"Cairn already runs on {data_dir} (process {first.process.pid}, {url})" in out.decode()
    assert httpx.get(f"{url}/api/v1/health").status_code == 200, "the first one is not disturbed"


def test_a_taken_port_is_named_before_anything_starts(start: Start, data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        running = start("--port", str(port))
        out, _ = running.process.communicate(timeout=180)
    assert running.process.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken" in out.decode()
    assert "--port" in out.decode()
    assert not (data_dir / "cairn.db").exists()


@pytest.mark.parametrize("name", ["api", "redis"])
def test_a_part_that_is_killed_comes_back(start: Start, name: str) -> None:
    running = start()
    url = url_of(running)
    os.kill(running.children()[name], signal.SIGKILL)
    running.wait_for(rf"{name} +was killed by signal 9(?s:.*){name} +ready")
    deadline = time.monotonic() + 60
    while httpx.get(f"{url}/api/v1/health").status_code != 200:
        assert time.monotonic() < deadline, "the API does not find the new broker"
        time.sleep(0.1)


def test_when_it_is_killed_its_parts_end_and_the_next_one_starts(start: Start) -> None:
    running = start()
    url_of(running)
    children = running.children()
    running.process.kill()
    running.process.wait()
    again = start()
    url_of(again)
    assert not any(psutil.pid_exists(pid) for pid in children.values())
    assert again.stop() == 0


def test_a_package_app_where_it_is_started_is_none_of_ours(start: Start, tmp_path: Path) -> None:
    for name in ("app", "worker", "migrations"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    running = start(cwd=tmp_path)
    assert httpx.get(f"{url_of(running)}/api/v1/health").status_code == 200


def test_a_closed_terminal_stops_it_in_order(start: Start) -> None:
    running = start()
    url_of(running)
    children = running.children()
    assert running.stop(signal.SIGHUP) == 0
    assert not any(psutil.pid_exists(pid) for pid in children.values())


def test_a_broker_of_ones_own_is_used(start: Start, redis_server: str, data_dir: Path) -> None:
    running = start(CAIRN_REDIS_URL=redis_server)
    url = url_of(running)
    assert set(running.children()) == {"api"}
    assert httpx.get(f"{url}/api/v1/health").json()["redis"] is True
    assert not (data_dir / "redis").exists()


def test_other_machines_are_let_in_only_with_a_warning(start: Start) -> None:
    running = start("--host", "0.0.0.0")
    url_of(running)
    assert "reachable from other machines" in running.printed
    quiet = start("--host", "127.0.0.1", CAIRN_DATA_DIR="unused")
    out, _ = quiet.process.communicate(timeout=180)
    assert "reachable" not in out.decode()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CAIRN_PORT": "many"}, "CAIRN_PORT is wrong"),
        ({"CAIRN_DATABASE_URL": "postgresql://u:geheim@127.0.0.1:1/none"}, "database cannot be prepared"),
    ],
)
def test_a_wrong_setting_is_named(start: Start, environment: dict[str, str], words: str) -> None:
    running = start(**environment)
    out, _ = running.process.communicate(timeout=180)
    assert running.process.returncode == 1
    assert words in out.decode()
    assert "Traceback" not in out.decode()
    assert "geheim" not in out.decode()


def test_a_data_directory_that_cannot_be_made_is_no_traceback(start: Start, data_dir: Path) -> None:
    data_dir.parent.joinpath("file").write_text("in the way")
    running = start("--data-dir", str(data_dir.parent / "file" / "data"))
    out, _ = running.process.communicate(timeout=180)
    assert running.process.returncode == 1
    assert "cannot be made" in out.decode()
    assert "Traceback" not in out.decode()
