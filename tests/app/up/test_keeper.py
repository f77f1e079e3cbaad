"""Keeping parts alive, with real processes."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from app.up.keeper import FIRST_RETRY_S, LONGEST_RETRY_S, Hopeless, Keeper, backoff
from app.up.parts import LOG_BYTES, Part

# Writes its process id to the file it is given, then sleeps.
SLEEPER = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"


class Heard(list[tuple[str, str]]):
    """What a keeper said."""

    def __call__(self, name: str, what: str) -> None:
        self.append((name, what))


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def part(directory: Path, name: str, code: str = SLEEPER, **options: object) -> Part:
    sign = directory / f"{name}.pid"

    def healthy() -> bool:
        words = sign.read_text().split() if sign.exists() else []
        return made.process is not None and words[:1] == [str(made.process.pid)]

    made = Part(
        name=name,
        command=[sys.executable, "-S", "-c", textwrap.dedent(code), str(sign)],
        environment=dict(os.environ),
        log=directory / f"{name}.log",
        healthy=healthy,
        **options,  # type: ignore[arg-type]
    )
    return made


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def keep(heard: Heard) -> Iterator[Callable[..., Keeper]]:
    keepers: list[Keeper] = []

    def make(*parts: Part) -> Keeper:
        keepers.append(Keeper(parts, heard))
        return keepers[-1]

    yield make
    for keeper in keepers:
        keeper.hurry()
        keeper.stop()


def pid_of(directory: Path, name: str) -> int:
    return int((directory / f"{name}.pid").read_text())


def test_parts_start_one_after_the_other(tmp_path: Path, keep: Callable[..., Keeper], heard: Heard) -> None:
    keep(part(tmp_path, "first"), part(tmp_path, "second")).start()
    assert heard == [("first", "ready"), ("second", "ready")]
    times = [(tmp_path / f"{name}.pid").stat().st_mtime_ns for name in ("first", "second")]
    assert times == sorted(times)


def test_a_part_that_dies_is_started_again(tmp_path: Path, keep: Callable[..., Keeper], heard: Heard) -> None:
    keep(part(tmp_path, "only")).start()
    first = pid_of(tmp_path, "only")
    os.kill(first, signal.SIGKILL)
    until(lambda: heard.count(("only", "ready")) == 2)
    assert pid_of(tmp_path, "only") != first
    assert "was killed by signal 9" in heard[1][1]


def test_a_part_that_hangs_is_killed_and_started_again(
    tmp_path: Path, keep: Callable[..., Keeper], heard: Heard
) -> None:
    mute = part(tmp_path, "only", hang_s=0.5)
    keep(mute).start()
    first = pid_of(tmp_path, "only")
    alive, mute.healthy = mute.healthy, lambda: False
    until(lambda: not psutil.pid_exists(first))
    mute.healthy = alive
    until(lambda: heard.count(("only", "ready")) == 2)
    assert "gives no sign of life" in heard[1][1]


def test_a_part_that_never_starts_is_given_up_with_the_end_of_its_log(
    tmp_path: Path, keep: Callable[..., Keeper]
) -> None:
    keeper = keep(part(tmp_path, "broken", "print('no such port'); raise SystemExit(3)"))
    with pytest.raises(Hopeless, match=r"broken does not start(?s:.*)no such port"):
        keeper.start()


def test_waits_double_up_to_a_bound() -> None:
    waits = [backoff(failures) for failures in range(1, 12)]
    assert waits[0] == FIRST_RETRY_S
    assert all(later in (2 * earlier, LONGEST_RETRY_S) for earlier, later in itertools.pairwise(waits))
    assert waits[-1] == LONGEST_RETRY_S


def test_the_last_part_stops_first_and_each_may_finish(tmp_path: Path, keep: Callable[..., Keeper]) -> None:
    slow = """
        import os, signal, sys, time
        def stop(*_):
            time.sleep(0.3)
            with open(sys.argv[1], 'a') as file:
                file.write(f" {time.time_ns()}")
            sys.exit(0)
        signal.signal(signal.SIGTERM, stop)
        open(sys.argv[1], 'w').write(str(os.getpid()))
        time.sleep(600)
    """
    keeper = keep(part(tmp_path, "first", slow), part(tmp_path, "second", slow))
    keeper.start()
    keeper.stop()
    ended = {name: int((tmp_path / f"{name}.pid").read_text().split()[1]) for name in ("first", "second")}
    assert ended["second"] + 0.25e9 < ended["first"]


def test_a_part_that_ignores_the_request_is_killed_with_its_children(
    tmp_path: Path, keep: Callable[..., Keeper], heard: Heard
) -> None:
    stubborn = """
        import os, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
        open(sys.argv[1], 'w').write(f"{os.getpid()} {child.pid}")
        time.sleep(600)
    """
    keeper = keep(part(tmp_path, "only", stubborn, grace_s=0.3))
    keeper.start()
    child = int((tmp_path / "only.pid").read_text().split()[1])
    keeper.stop()
    assert heard[-1] == ("only", "was killed: it did not stop in time")
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_parts_end_when_their_keeper_is_killed(tmp_path: Path) -> None:
    code = f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parents[3])!r})
        from pathlib import Path
        from tests.app.up.test_keeper import part
        from app.up.keeper import Keeper
        Keeper([part(Path({str(tmp_path)!r}), "only")], lambda *_: None).start()
        print("started", flush=True)
        time.sleep(600)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"started\n"
    child = pid_of(tmp_path, "only")
    assert psutil.pid_exists(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not psutil.pid_exists(child))


def test_a_large_log_is_set_aside_while_it_is_written_to(tmp_path: Path) -> None:
    chatty = part(tmp_path, "chatty", "")
    with chatty.log.open("ab") as log:
        log.write(b"x" * (LOG_BYTES + 1))
        log.flush()
        chatty.bound_log()
        log.write(b"after\n")
    assert chatty.log.read_bytes() == b"after\n"
    assert chatty.log.with_suffix(".log.1").stat().st_size == LOG_BYTES + 1
