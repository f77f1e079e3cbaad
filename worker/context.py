"""The trainer's way out: phase, status, events and artifacts as files of the run directory."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from worker.ranks import ALONE, Ranks
from worker.rundir import RunDir, Status, write_atomically, write_json


class Stopped(Exception):
    """The job is to end before its first step, for nothing of it is there yet that could be saved."""


class RunContext:
    """The Context of a real run. Paths of `rundir.RunDir`."""

    def __init__(self, run: RunDir, ranks: Ranks = ALONE, stop_wanted: Callable[[], Any] = lambda: None) -> None:
        self.root = run.root
        self.ranks = ranks
        self.current_phase = "starting"
        self._run = run
        self._stop_wanted = stop_wanted
        self._step = self._total_steps = 0

    def phase(self, name: str) -> None:
        """Say what happens now."""
        self.current_phase = name
        print(f"{time.strftime('%H:%M:%S')} phase: {name}", flush=True)  # noqa: T201 - stdout is the log
        self.status(self._step)

    def known(self, total_steps: int) -> None:
        """Say how many steps there are, once that is known."""
        self._total_steps = total_steps
        self.status(self._step)

    def status(self, step: int, steps_per_s: float | None = None) -> None:
        """Say where the training stands; a few times a second at most, for this touches the disk."""
        self._step = step
        status = Status(phase=self.current_phase, step=step, total_steps=self._total_steps, steps_per_s=steps_per_s)
        write_json(self._run.status, status, durable=False)

    def heed_stop(self) -> None:
        """Raise Stopped when the job is to end."""
        if self._stop_wanted():
            raise Stopped

    def event(self, kind: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        """Put something on the job's timeline."""
        line = json.dumps({"kind": kind, "message": message, "data": dict(data or {})})
        with self._run.events.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(f"{time.strftime('%H:%M:%S')} {kind}: {message}", flush=True)  # noqa: T201 - stdout is the log

    def publish(self, path: Path) -> None:
        """Hand over a finished file below the run directory: under its own name it becomes the job's."""
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.replace(self._run.files / path.name)

    def artifact(self, kind: str, key: str) -> Path | None:
        """Return the path of a kept artifact: one that the supervisor found, or one made by this run."""
        name = f"{kind}-{key}"
        found = (self._run.artifacts_in / name, self._run.artifacts_out / name)
        return next((path for path in found if path.exists()), None)

    def keep(self, kind: str, key: str, data: bytes) -> None:
        """Keep an artifact for every later job whose key is the same."""
        write_atomically(self._run.artifacts_out / f"{kind}-{key}", data)

    def keep_file(self, kind: str, key: str, path: Path) -> None:
        """Keep a file below the run directory as an artifact; it is moved, whatever its size."""
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.replace(self._run.artifacts_out / f"{kind}-{key}")


class FollowerContext(RunContext):
    """The Context of a rank other than the main one, which speaks for all: it writes to the log, and keeps nothing."""

    def status(self, step: int, steps_per_s: float | None = None) -> None:
        """Leave it to the main rank to say where the training stands."""

    def event(self, kind: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        """Say it in the log only."""
        print(f"{time.strftime('%H:%M:%S')} {kind}: {message}", flush=True)  # noqa: T201 - stdout is the log

    def keep(self, kind: str, key: str, data: bytes) -> None:
        """Leave it to the main rank, whose artifact is the same."""

    def keep_file(self, kind: str, key: str, path: Path) -> None:
        """Leave it to the main rank, whose artifact is the same."""
