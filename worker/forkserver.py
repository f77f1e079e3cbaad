"""The process that trainers are forked from: it has torch and the engine imported, and never touches a GPU.

Started by `worker.children`; speaks JSON over a SEQPACKET socket, one message a packet:
`{"spawn": id, "entry", "rundir", "log", "environment"}` is answered by `{"spawned": id, "pid"}`;
`{"signal": number, "pid", "group"}` is not answered; `{"exited": pid, "code"}` is told when a trainer is gone (a negative code
is the signal that killed it).

Nobody outlives the worker: when the socket closes, every trainer's process group is killed; when the forkserver itself is
killed, the kernel kills the trainers (PDEATHSIG).
"""

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from worker.failures import is_disk_full
from worker.process import NO_ROOM, die_with_parent, redirect_output

MAX_PACKET = 1 << 17
_PR_SET_NAME = 15
# Terminals and service managers signal whole groups; only the worker decides when trainers go. Blocked rather than
# ignored: what arrives between fork and the trainer's own setup stays pending and is not lost.
_BLOCKED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Serve on the socket whose descriptor is the first argument, with the modules that follow imported."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    channel = socket.socket(fileno=int(sys.argv[1]))
    started = time.monotonic()
    failed = _preload(sys.argv[2:])
    with suppress(ConnectionError):  # the worker is gone, and so is everybody to work for
        _send(channel, {"ready": time.monotonic() - started, "failed": failed})
        _serve(channel)


def _preload(modules: list[str]) -> dict[str, str]:
    """Import what trainers will need; return what went wrong by module. A trainer then meets, and reports, the same."""
    failed = {}
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - libraries fail to import in every way there is
            failed[name] = f"{type(error).__name__}: {error}"[:500]
    gc.collect()
    gc.freeze()
    return failed


def _serve(channel: socket.socket) -> None:
    woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: set[int] = set()
    try:
        while True:
            readable, _, _ = select.select([channel.fileno(), woken], [], [])
            if woken in readable:
                os.read(woken, 4096)
                _reap(channel, children)
            if channel.fileno() in readable:
                packet = channel.recv(MAX_PACKET)
                if not packet:
                    return
                _handle(channel, children, json.loads(packet))
    finally:
        for pid in children:
            _kill_group(pid, signal.SIGKILL)


def _handle(channel: socket.socket, children: set[int], request: dict[str, Any]) -> None:
    if "spawn" in request:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _become_trainer(channel, request)
        children.add(pid)
        _send(channel, {"spawned": request["spawn"], "pid": pid})
    elif request["pid"] in children:
        kill = _kill_group if request["group"] else os.kill
        kill(request["pid"], request["signal"])


def _reap(channel: socket.socket, children: set[int]) -> None:
    """Tell of trainers that are gone, after killing what they may have left running in their group."""
    for pid in list(children):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            continue
        # Still a zombie, so the number cannot be another process's yet.
        _kill_group(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        children.discard(pid)
        _send(channel, {"exited": pid, "code": os.waitstatus_to_exitcode(status)})


def _kill_group(pid: int, number: int) -> None:
    """Signal the group of a child that has not been waited for; its number is its own until then."""
    with suppress(PermissionError):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            os.kill(pid, number)  # a fork that has not come to its setsid yet has no group


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    channel.send(json.dumps(message).encode())


def _become_trainer(channel: socket.socket, request: dict[str, Any]) -> NoReturn:
    """Turn the fork into a trainer: own session, own log, dead when the forkserver is dead. Never returns."""
    code = 1
    try:
        _detach(channel, request)
        module, _, function = request["entry"].partition(":")
        code = getattr(importlib.import_module(module), function)(Path(request["rundir"])) or 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:  # noqa: BLE001 - the last line of a process: the log is where it can still speak
        code = NO_ROOM if isinstance(error, OSError) and is_disk_full(error) else 1
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _detach(channel: socket.socket, request: dict[str, Any]) -> None:
    die_with_parent()
    os.setsid()
    _libc.prctl(_PR_SET_NAME, f"cairn {Path(request['rundir']).name}".encode()[:15], 0, 0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    channel.close()
    os.environ.update(request["environment"])
    with suppress(OSError):  # when memory runs out, the kernel should take a trainer, which can be resumed
        Path("/proc/self/oom_score_adj").write_text("500")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    redirect_output(Path(request["log"]))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)


if __name__ == "__main__":
    main()
