"""Functions that the forkserver runs in a fork, for the tests of processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def report(rundir: Path) -> int:
    print(f"session {os.getsid(0)} group {os.getpgid(0)} pid {os.getpid()}")
    print(f"slot {os.environ.get('CAIRN_TEST_SLOT')}")
    print("to stderr", file=sys.stderr)
    return 7


def fail(rundir: Path) -> None:
    raise RuntimeError("planned")


def wait(rundir: Path) -> None:
    (rundir / "pid").write_text(str(os.getpid()))
    time.sleep(600)


def wait_with_child(rundir: Path) -> None:
    child = subprocess.Popen(["sleep", "600"])
    (rundir / "child.tmp").write_text(str(child.pid))
    (rundir / "child.tmp").rename(rundir / "child")
    time.sleep(600)


def leave_child(rundir: Path) -> None:
    child = subprocess.Popen(["sleep", "600"])
    (rundir / "child").write_text(str(child.pid))


def polite(rundir: Path) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    (rundir / "pid").write_text(str(os.getpid()))
    time.sleep(600)
