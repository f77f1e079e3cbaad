"""All runs of a relaxation job once more: how often and in which ways, and what comparing them with the first time tells."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.wire.relaxing import Repeat
from worker.engines.deepmd.again import in_fresh_process
from worker.engines.deepmd.relaxations import Work, kept
from worker.engines.deepmd.trajectories import Comparison, Trajectory


@dataclass(frozen=True)
class Again:
    """One way to do it once more."""

    how: str
    """In words."""
    time: int
    """Which time it is that all is done, the first one counted."""
    fresh: tuple[str, int] | None = None
    """Form of the models and number of threads, in a process of its own; None: in this one."""

    def frames(self, work: Work, place: Path) -> Iterator[Any]:
        """Do all runs, yield once for each frame, and leave the trajectories in `place`."""
        return work.done(place) if self.fresh is None else in_fresh_process(work.run, place, *self.fresh)


def planned(config: Mapping[str, Any], threads: int) -> list[Again]:
    """Return what a job asks for, in the order in which it is done."""
    repeat, form = config["repeat"], config["form"]
    ways: list[tuple[str, tuple[str, int] | None]]
    ways = [(f"in the same process, time {number}", None) for number in range(2, repeat)]
    if repeat > 1:
        ways.append(("in a fresh process", (form, threads)))
    if "threads" in config["compare"]:
        other = 2 if threads == 1 else 1
        words = f"with {other} thread{'s' if other > 1 else ''} in place of {threads}"
        ways.append((words, (form, other)))
    if "form" in config["compare"]:
        other_form = "checkpoint" if form == "frozen" else "frozen"
        words = "from the checkpoint" if form == "frozen" else "from the frozen model (.pth)"
        ways.append((words, (other_form, threads)))
    return [Again(how, time, fresh) for time, (how, fresh) in enumerate(ways, 2)]


def compared(work: Work, how: str, first: Path, again: Path) -> Repeat:
    """Compare what two times have left; the later one is not kept."""
    comparison = Comparison(how)
    for number, run in enumerate(work.runs):
        comparison.add(run.name, *(Trajectory.load(kept(place, number)) for place in (first, again)))
    shutil.rmtree(again)
    return comparison.told()


def in_words(repeat: Repeat) -> str:
    """Return what a comparison has shown."""
    if repeat.identical:
        return f"Done again {repeat.how}: all {repeat.frames} frames are the same, bit for bit."
    return (
        f"Done again {repeat.how}: {repeat.parts_in} parts at frame {repeat.parts_at}; at most "
        f"{repeat.positions:.1e} Å, {repeat.energy:.1e} eV and {repeat.forces:.1e} eV/Å lie between the two."
    )
