"""The loop of jobs that train nothing: steps, metrics, stop, and checkpoints of those that can go on from one."""

import logging
import time
from mmap import mmap

from worker import checkpoint
from worker.background import Background
from worker.context import RunContext
from worker.engines.base import EngineTask, ResumableTask
from worker.failures import is_disk_full
from worker.loop import RESERVE_BYTES, Meter, Progress, Stop, StopSwitch, save_if_room, say_if_room
from worker.rundir import Result, RunDir
from worker.spool import MetricSpool

log = logging.getLogger(__name__)

SAVE_EVERY_S = 60.0
"""Seconds between two checkpoints: what a killed worker costs. By the clock, for a step may take a millisecond or a minute."""
SAVE_SHARE = 0.05
"""Part of the time that checkpoints take at most: large ones come less often."""


def work(task: EngineTask, outlet: RunContext, directory: RunDir, stop: StopSwitch, progress: Progress) -> Result:
    """Do the steps after `progress.step`, or stop between two. Exceptions pass through, metrics first."""
    outlet.phase(task.phase)
    steps = iter(task.steps())
    with Background() as background:
        spool = MetricSpool(directory.metrics, background)
        meter = Meter(progress.step)
        saver = _Saver(task, directory, spool, progress) if isinstance(task, ResumableTask) else None
        reserve = mmap(-1, RESERVE_BYTES)
        try:
            while (how := stop.wanted()) is None and (metrics := next(steps, None)) is not None:
                progress.step += 1
                spool.add(progress.step, metrics)
                if spool.is_due():
                    spool.flush()
                    background.do(say_if_room, outlet, progress.step, meter.steps_per_s(progress.step))
                if saver is not None and saver.is_due():
                    save_if_room(saver.save, outlet, progress, is_last=False)
            if saver is not None and how == "checkpoint":
                saver.end()
        except BaseException:
            del reserve
            raise
        finally:
            spool.drain()
    return _ended(task, outlet, progress, how, meter)


def _ended(task: EngineTask, outlet: RunContext, progress: Progress, how: Stop | None, meter: Meter) -> Result:
    if how is None and task.total_steps == 0:
        outlet.known(progress.step)
    outlet.status(progress.step, meter.steps_per_s(progress.step))
    assert how is not None or task.total_steps in (0, progress.step), f"{progress.step} steps, not {task.total_steps}"
    return Result(outcome="completed" if how is None else "stopped", step=progress.step)


class _Saver:
    """Writes checkpoints of a task, now and then."""

    def __init__(self, task: ResumableTask, directory: RunDir, spool: MetricSpool, progress: Progress) -> None:
        self._task, self._directory, self._spool, self._progress = task, directory, spool, progress
        self._due = time.monotonic() + SAVE_EVERY_S

    def is_due(self) -> bool:
        """Return whether it is time, and there is something new to go on from."""
        return time.monotonic() >= self._due and self._task.returns_to > self._progress.saved

    def save(self) -> None:
        """Write a checkpoint, unless the last one is as good."""
        if self._task.returns_to <= self._progress.saved:
            return
        began = time.monotonic()
        try:
            self._spool.drain()
            manifest = checkpoint.write_task(self._directory, self._task)
        finally:
            took = time.monotonic() - began
            self._due = began + took + max(SAVE_EVERY_S, took / SAVE_SHARE)
        self._progress.saved = manifest.step
        size = sum(file["size"] for file in manifest.files.values())
        log.info("checkpoint of step %d written (%.1f MB in %.2f s)", manifest.step, size / 1e6, took)

    def end(self) -> None:
        """Write the last checkpoint, and let the task publish what it has if there is room for that."""
        self.save()
        try:
            self._task.leave()
        except OSError as error:
            if not is_disk_full(error):
                raise
            log.warning("no space to publish what there is so far: the checkpoint has it all")
