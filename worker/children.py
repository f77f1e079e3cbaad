"""Trainer processes as the worker sees them: started through the forkserver, signalled, waited for."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.client import Hurry
from worker.forkserver import MAX_PACKET
from worker.sandbox import without_secrets

log = logging.getLogger(__name__)

SPAWN_TIMEOUT_S = 300.0
"""A cold forkserver on a busy disk imports torch for a minute; nothing good takes longer than this."""


class ForkserverDown(Exception):
    """No trainer can be started on this host just now."""


@dataclass
class TrainerProcess:
    """One trainer. `exit_code`: negative for the signal that killed it; None after its exit: unknown, its forkserver died."""

    pid: int
    _forkserver: "Forkserver"
    exited: threading.Event = field(default_factory=threading.Event)
    exit_code: int | None = None

    def wait(self, timeout_s: float) -> bool:
        """Return whether the trainer is gone, after at most `timeout_s`."""
        return self.exited.wait(timeout_s)

    def stop(self) -> None:
        """Ask for a checkpoint and an end (SIGTERM)."""
        self._forkserver.signal(self, signal.SIGTERM, group=False)

    def kill(self) -> None:
        """Kill the whole process group."""
        self._forkserver.signal(self, signal.SIGKILL, group=True)


class Forkserver:
    """Keeps one forkserver running: started in the background, and again whenever it dies."""

    def __init__(
        self, preload: Sequence[str], threads: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = [sys.executable, "-m", "worker.forkserver"]
        self._preload = list(preload)
        # Children speak to nobody, so they get no word that would let them.
        self._environment = without_secrets(dict(os.environ)) | dict(environment or {})
        if threads is not None:
            # OpenMP reads it once, when torch is loaded, which is in the forkserver.
            self._environment.setdefault("OMP_NUM_THREADS", str(threads))
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._children: dict[int, TrainerProcess] = {}
        self._answers: dict[int, Future[TrainerProcess]] = {}
        self._spawns = 0
        self._closed = False
        self.ready = threading.Event()
        self.pid: int | None = None

    def start(self) -> None:
        """Begin, and return at once."""
        threading.Thread(target=self._keep_running, name="forkserver", daemon=True).start()

    def spawn(self, entry: str, rundir: Path, environment: dict[str, str], give_up: Hurry) -> TrainerProcess:
        """Start `entry` (`module:function`, called with the run directory) in a process of its own.

        Raises:
            ForkserverDown: There is no forkserver, it died over this, or `give_up` was set first.
        """
        answer: Future[TrainerProcess] = Future()
        deadline = time.monotonic() + SPAWN_TIMEOUT_S
        while not self._ask(entry, rundir, environment, answer):
            if self._closed or give_up.wait(0.1) or time.monotonic() > deadline:
                raise ForkserverDown("The forkserver does not start: see the worker's log.")
        while True:
            try:
                return answer.result(0.1)
            except TimeoutError:
                if give_up.is_set() or time.monotonic() > deadline:
                    answer.add_done_callback(_kill_late)
                    raise ForkserverDown("The trainer did not start in time.") from None

    def _ask(self, entry: str, rundir: Path, environment: dict[str, str], answer: Future[TrainerProcess]) -> bool:
        with self._lock:
            if self._channel is None:
                return False
            self._spawns += 1
            self._answers[self._spawns] = answer
            request = {"spawn": self._spawns, "entry": entry, "rundir": str(rundir), "log": str(rundir / "log.txt")}
            self._send(request | {"environment": environment})
            return True

    def signal(self, trainer: TrainerProcess, number: int, *, group: bool) -> None:
        """Signal a trainer; nothing happens when it is gone."""
        with self._lock:
            if not trainer.exited.is_set():
                self._send({"signal": int(number), "pid": trainer.pid, "group": group})

    def close(self) -> None:
        """End the forkserver and with it every trainer."""
        with self._lock:
            self._closed = True
            if self._channel is not None:
                self._channel.shutdown(socket.SHUT_RDWR)

    def _send(self, message: dict[str, Any]) -> None:
        if self._channel is not None:
            with suppress(OSError):  # it just died; the reader settles what that means
                self._channel.send(json.dumps(message).encode())

    def _keep_running(self) -> None:
        pause_s = 0.5
        while True:
            started = time.monotonic()
            self._run_once()
            if self._closed:
                return
            pause_s = 0.5 if time.monotonic() - started > 60 else min(30.0, pause_s * 2)
            log.error("forkserver pid=%s died; the next one starts in %.1f s", self.pid, pause_s)
            time.sleep(pause_s)

    def _run_once(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [*self._command, str(theirs.fileno()), *self._preload],
                pass_fds=[theirs.fileno()],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        with self._lock:
            self.pid, self._channel = process.pid, ours
        try:
            while packet := ours.recv(MAX_PACKET):
                self._heard(json.loads(packet))
        except OSError:
            pass
        finally:
            self._lost()
            ours.close()
            process.kill()
            process.wait()

    def _heard(self, message: dict[str, Any]) -> None:
        if "spawned" in message:
            trainer = TrainerProcess(message["pid"], self)
            self._children[trainer.pid] = trainer
            self._answers.pop(message["spawned"]).set_result(trainer)
        elif "exited" in message:
            trainer = self._children.pop(message["exited"])
            trainer.exit_code = message["code"]
            trainer.exited.set()
        else:
            self.ready.set()
            log.info("forkserver pid=%s ready after %.1f s", self.pid, message["ready"])
            for module, why in message["failed"].items():
                log.error("forkserver could not import %s: %s", module, why)

    def _lost(self) -> None:
        """Settle everything that waited for the forkserver that is gone. Its trainers die with it."""
        with self._lock:
            self._channel = None
            self.ready.clear()
            answers, self._answers = self._answers, {}
            children, self._children = self._children, {}
        for answer in answers.values():
            answer.set_exception(ForkserverDown("The forkserver died while it started a trainer."))
        for trainer in children.values():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(trainer.pid, signal.SIGKILL)  # what the trainer itself had started
            trainer.exited.set()


def _kill_late(answer: "Future[TrainerProcess]") -> None:
    """Kill a trainer that started after nobody wanted it any more."""
    if answer.exception() is None:
        answer.result().kill()
