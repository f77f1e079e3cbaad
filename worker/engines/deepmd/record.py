"""Every frame of a relaxation job, in files that never change once they are full: what an interrupted job goes on from."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from app.wire.base import Message
from app.wire.relaxing import Repeat
from worker.engines.deepmd.trajectories import Frame, Trajectory
from worker.rundir import link_or_copy

FULL_BYTES = 8 << 20
"""Size from which on a file gets no more frames. Only the one that is not full is written, and uploaded, again."""

STATE = "state.json"


class State(Message):
    """What a checkpoint holds beside the frames."""

    step: int = Field(ge=0, description="That it goes on after.")
    frames: int = Field(ge=0, description="Of the first time.")
    ended: int = Field(ge=0, description="Runs that have ended, and of which that was told.")
    repeats: list[Repeat]

    def save(self, path: Path) -> None:
        """Write it, infinite differences included."""
        path.write_text(json.dumps(self.model_dump()), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "State":
        """Read what `save` wrote."""
        return cls.model_validate_json(path.read_bytes())


@dataclass(frozen=True)
class Kept:
    """What an execution finds of those before it."""

    frames: dict[int, list[Frame]] = field(default_factory=dict)
    """By run; each is taken from here when its turn comes."""
    ended: int = 0
    """Runs that had ended, the first ones."""


class Record:
    """Frames in the order in which they came, each with the number of its run."""

    def __init__(self, place: Path) -> None:
        """`place` is an empty directory, for the files that are full."""
        self.frames = 0
        self._place = place
        self._full: list[str] = []
        self._waiting: list[tuple[int, Frame]] = []
        """Those that are in no full file yet."""
        self._digest = hashlib.sha256()

    def add(self, run: int, frame: Frame) -> None:
        """Take a frame of a run."""
        self.frames += 1
        self._waiting.append((run, frame))
        self._digest.update(frame.bits())

    def digest(self) -> str:
        """Return SHA-256 over all frames so far."""
        return self._digest.hexdigest()

    def save(self, directory: Path) -> list[str]:
        """Put all frames into a directory, and return the names of the files."""
        names = list(self._full)
        for name in names:
            link_or_copy(self._place / name, directory / name)
        if self._waiting:
            name = f"frames-{len(names):05}.npz"
            names.append(name)
            np.savez(directory / name, **_arrays(self._waiting))
            self._keep_if_full(directory / name)
        return names

    def load(self, directory: Path) -> dict[int, list[Frame]]:
        """Take what was put there into this record, which is empty; return the frames of each run."""
        found: dict[int, list[Frame]] = {}
        for path in sorted(directory.glob("frames-*.npz")):
            for run, frame in _frames(path):
                self.add(run, frame)
                found.setdefault(run, []).append(frame)
            self._keep_if_full(path)
        return found

    def _keep_if_full(self, path: Path) -> None:
        if path.stat().st_size >= FULL_BYTES:
            link_or_copy(path, self._place / path.name)
            self._full.append(path.name)
            self._waiting = []


def _arrays(frames: Sequence[tuple[int, Frame]]) -> dict[str, Any]:
    """Return the frames of each run as arrays, by the run's number and their name."""
    return {
        f"{run}.{name}": array
        for run, group in groupby(frames, key=lambda each: each[0])
        for name, array in Trajectory.of([frame for _, frame in group]).arrays().items()
    }


def _frames(path: Path) -> Iterator[tuple[int, Frame]]:
    with np.load(path, allow_pickle=False) as held:
        arrays: dict[int, dict[str, Any]] = {}
        for key in held.files:
            run, _, name = key.partition(".")
            arrays.setdefault(int(run), {})[name] = held[key]
    for run in sorted(arrays):
        for frame in Trajectory(**arrays[run]).frames():
            yield run, frame
