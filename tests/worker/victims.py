"""Functions that the forkserver runs in a fork, for the tests of processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from worker import sandbox


def report(rundir: Path) -> int:
    print(f"session {os.getsid(0)} group {os.getpgid(0)} pid {os.getpid()}")
    print(f"slot {os.environ.get('CAIRN_TEST_SLOT')}")
    print("to stderr", file=sys.stderr)
    return 7


def fail(rundir: Path) -> None:
    raise RuntimeError("planned")


def write_without_room(rundir: Path) -> None:
    Path("/dev/full").write_text("result")


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


def crash(rundir: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def end_without_a_result(rundir: Path) -> int:
    return 0


def confined(rundir: Path) -> None:
    """Confine this process, then try what a confined one cannot."""
    sandbox.confine(memory_bytes=256 << 20, cpu_s=60, file_bytes=1 << 20)
    tries = {
        "memory": lambda: bytearray(512 << 20),
        "file": lambda: (rundir / "big").write_bytes(bytes(2 << 20)),
        "network": lambda: socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), timeout=5).close(),
        "little memory": lambda: bytearray(64 << 20),
    }
    for name, attempt in tries.items():
        try:
            attempt()
        except (OSError, MemoryError) as error:
            print(f"{name}: {type(error).__name__}", flush=True)
        else:
            print(f"{name}: done", flush=True)
    print("initial environment:", "hush" in Path("/proc/self/environ").read_text())
    print("no new privileges:", "NoNewPrivs:\t1" in Path("/proc/self/status").read_text())


def burn(rundir: Path) -> None:
    sandbox.confine(memory_bytes=256 << 20, cpu_s=1, file_bytes=1 << 20)
    while True:
        pass


def report_device(rundir: Path) -> None:
    from deepmd.pt.utils.env import DEVICE

    print(DEVICE, os.environ["DEVICE"], repr(os.environ["CUDA_VISIBLE_DEVICES"]))
