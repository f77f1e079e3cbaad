"""A part of a running Cairn (Redis, API, worker): a process that is started, probed, restarted and stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

LOG_BYTES = 16 * 2**20
"""A part's log is set aside as `.1` when it is larger than this; the one set aside before is dropped."""

_LEASH = Path(__file__).with_name("leash.py")


@dataclass
class Part:
    """One process and what is known of it. Every method returns at once but `stop` and `probe`."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    healthy: Callable[[], bool]
    """Asks the process for a sign of life; may take a second or two, never raises."""
    grace_s: float = 10.0
    """How long it may take to stop after SIGTERM."""
    start_s: float = 120.0
    """How long it may take to give the first sign of life."""
    hang_s: float = 60.0
    """How long it may then give none."""
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    ready: bool = False
    last_sign_at: float = 0.0
    next_probe_at: float = 0.0
    failures: int = 0
    """Ends in a row that nobody asked for."""
    retry_at: float = field(default=0.0)

    def start(self, inherit: Sequence[int]) -> None:
        """Start the process in a session of its own, with its output appended to its log."""
        command = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), *self.command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603  (the command is our own)
                command,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches the terminal's whole process group; the order of stopping is ours to decide.
                start_new_session=True,
                pass_fds=tuple(inherit),
            )
        self.started_at = self.last_sign_at = time.monotonic()
        self.next_probe_at, self.ready = 0.0, False

    def ended(self) -> int | None:
        """Return the exit status when the process has ended by itself."""
        return self.process.poll() if self.process else None

    def probe(self) -> None:
        """Ask for a sign of life, often while it starts and seldom afterwards."""
        if time.monotonic() < self.next_probe_at:
            return
        if self.healthy():
            self.ready = True
            self.last_sign_at = time.monotonic()
        self.next_probe_at = time.monotonic() + (2.0 if self.ready else 0.1)

    def hangs(self) -> bool:
        """Return whether it has given no sign of life for too long."""
        return time.monotonic() - self.last_sign_at > (self.hang_s if self.ready else self.start_s)

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self.process:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Stop the process, and kill what is left of its group. Return whether it went by itself."""
        if self.process is None:
            return True
        self.ask_to_stop()
        deadline = time.monotonic() + self.grace_s
        while self.process.poll() is None and time.monotonic() < deadline and not hurry():
            time.sleep(0.05)
        willing = self.process.poll() is not None
        self.kill()
        return willing

    def kill(self) -> None:
        """Kill the process and whatever it left in its group."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
            self.ready = False

    def tail(self, lines: int = 12) -> str:
        """Return the end of the log."""
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace")[-8000:].splitlines()[-lines:])
        return ""

    def bound_log(self) -> None:
        """Set a large log aside. Copied and cut rather than renamed: the process keeps writing to the same file."""
        with suppress(OSError):
            if self.log.stat().st_size > LOG_BYTES:
                self.log.with_suffix(".log.1").write_bytes(self.log.read_bytes())
                os.truncate(self.log, 0)
