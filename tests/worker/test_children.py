"""Trainer processes: how they start, are told, and never outlive those who watch them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from worker import forkserver as forkserver_module
from worker.children import Forkserver, ForkserverDown, TrainerProcess
from worker.process import NO_ROOM

ROOT = Path(__file__).parents[2]


@pytest.fixture
def forkserver() -> Iterator[Forkserver]:
    server = Forkserver(["tests.worker.victims", "worker.no_such_module"], threads=1)
    server.start()
    yield server
    server.close()


def run(forkserver: Forkserver, function: str, rundir: Path, **environment: str) -> TrainerProcess:
    return forkserver.spawn(f"tests.worker.victims:{function}", rundir, environment, threading.Event())


def wait_for(condition: Callable[[], object], what: str, patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_trainer_has_its_own_session_log_and_environment(forkserver: Forkserver, tmp_path: Path) -> None:
    trainer = run(forkserver, "report", tmp_path, CAIRN_TEST_SLOT="GPU-1")
    assert trainer.wait(60)
    assert trainer.exit_code == 7
    pid = trainer.pid
    assert (tmp_path / "log.txt").read_text().splitlines() == [
        f"session {pid} group {pid} pid {pid}",
        "slot GPU-1",
        "to stderr",
    ]


def test_a_disk_without_room_is_told_by_the_exit_status(forkserver: Forkserver, tmp_path: Path) -> None:
    trainer = run(forkserver, "write_without_room", tmp_path)
    assert trainer.wait(60)
    assert trainer.exit_code == NO_ROOM


def test_an_exception_is_in_the_log(forkserver: Forkserver, tmp_path: Path) -> None:
    trainer = run(forkserver, "fail", tmp_path)
    assert trainer.wait(60)
    assert trainer.exit_code == 1
    assert "RuntimeError: planned" in (tmp_path / "log.txt").read_text()


def test_stop_is_a_signal_the_trainer_can_answer(forkserver: Forkserver, tmp_path: Path) -> None:
    trainer = run(forkserver, "polite", tmp_path)
    wait_for((tmp_path / "pid").exists, "the trainer")
    trainer.stop()
    assert trainer.wait(60)
    assert trainer.exit_code == 3


def test_kill_takes_the_whole_group(forkserver: Forkserver, tmp_path: Path) -> None:
    trainer = run(forkserver, "wait_with_child", tmp_path)
    wait_for((tmp_path / "child").exists, "the grandchild")
    trainer.kill()
    assert trainer.wait(60)
    assert trainer.exit_code == -signal.SIGKILL
    wait_for(lambda: is_gone(int((tmp_path / "child").read_text())), "the grandchild's end")


def test_what_a_trainer_leaves_running_is_killed(forkserver: Forkserver, tmp_path: Path) -> None:
    trainer = run(forkserver, "leave_child", tmp_path)
    assert trainer.wait(60)
    assert trainer.exit_code == 0
    wait_for(lambda: is_gone(int((tmp_path / "child").read_text())), "the grandchild's end")


def test_signals_to_the_forkserver_itself_do_nothing(forkserver: Forkserver, tmp_path: Path) -> None:
    assert forkserver.ready.wait(60)
    assert forkserver.pid is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(forkserver.pid, number)
    assert run(forkserver, "report", tmp_path).wait(60)


def test_a_dead_forkserver_takes_its_trainers_along_and_is_replaced(forkserver: Forkserver, tmp_path: Path) -> None:
    trainer = run(forkserver, "wait_with_child", tmp_path)
    wait_for((tmp_path / "child").exists, "the grandchild")
    assert forkserver.pid is not None
    os.kill(forkserver.pid, signal.SIGKILL)
    assert trainer.wait(60)
    assert trainer.exit_code is None
    wait_for(lambda: is_gone(trainer.pid), "the trainer's end")
    wait_for(lambda: is_gone(int((tmp_path / "child").read_text())), "the grandchild's end")
    second = run(forkserver, "report", tmp_path)
    assert second.wait(60)
    assert second.exit_code == 7


def test_a_trainer_that_starts_too_late_is_killed(forkserver: Forkserver, tmp_path: Path) -> None:
    assert forkserver.ready.wait(60)
    assert forkserver.pid is not None
    os.kill(forkserver.pid, signal.SIGSTOP)
    hurry = threading.Event()
    hurry.set()
    with pytest.raises(ForkserverDown, match="did not start in time"):
        forkserver.spawn("tests.worker.victims:wait", tmp_path, {}, hurry)
    os.kill(forkserver.pid, signal.SIGCONT)
    # Requests are taken in order: once this one has run, the late trainer was started, and maybe killed before its setsid.
    assert run(forkserver, "report", tmp_path).wait(60)
    wait_for(lambda: not psutil.Process(forkserver.pid).children(), "its end")


def test_nothing_survives_a_killed_worker(tmp_path: Path) -> None:
    code = (
        "import sys, threading, time; from pathlib import Path; from worker.children import Forkserver\n"
        "server = Forkserver(['tests.worker.victims']); server.start()\n"
        "server.spawn('tests.worker.victims:wait_with_child', Path(sys.argv[1]), {}, threading.Event())\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT) as worker:
        wait_for((tmp_path / "child").exists, "the grandchild")
        family = [process.pid for process in psutil.Process(worker.pid).children(recursive=True)]
        worker.kill()
    assert len(family) == 3
    wait_for(lambda: all(is_gone(pid) for pid in family), "the end of forkserver, trainer and grandchild")


def test_a_kill_reaches_a_fork_that_has_no_group_yet() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:  # in our group, as a fork is before its setsid
        try:
            forkserver_module._kill_group(child.pid, signal.SIGKILL)
            assert child.wait(60) == -signal.SIGKILL
        finally:
            child.kill()
