"""The engine-free training loop: steps, validation, metrics, checkpoints, stop."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from mmap import mmap
from pathlib import Path
from typing import Any, Literal

from worker import checkpoint
from worker.background import Background
from worker.context import RunContext
from worker.engines.base import EngineTrainer
from worker.failures import TrainingFailure, is_disk_full
from worker.ranks import Ranks
from worker.rundir import Result, RunDir
from worker.spool import MetricSpool

log = logging.getLogger(__name__)

Stop = Literal["checkpoint", "now"]

RESERVE_BYTES = 4 << 20
"""Memory that is held back during the steps and that an exception gives up first. With none at all CPython cannot leave a
`finally` or `with` of a long function: it needs a number for that, and tries to get one for ever.
"""


class StopSwitch:
    """Whether the training is to end before its last step. Asked between steps."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._signalled = False

    def signal(self) -> None:
        """Ask for a checkpoint and an end; safe in a signal handler."""
        self._signalled = True

    @property
    def signalled(self) -> bool:
        """Whether a signal has asked."""
        return self._signalled

    def wanted(self) -> Stop | None:
        """Return how to stop, or None to go on. Costs one look at the file system."""
        if self._file.exists():
            return "now" if self._file.read_text().strip() == "now" else "checkpoint"
        return "checkpoint" if self._signalled else None


@dataclass
class Progress:
    """Where the loop stands; outlives an exception, so that a failure can name its step."""

    step: int
    saved: int


def run(trainer: EngineTrainer, outlet: RunContext, directory: RunDir, stop: StopSwitch, progress: Progress) -> Result:
    """Train from `progress.step` to the last step, or until told to stop. Exceptions pass through, metrics first."""
    outlet.phase("training")
    with Background() as background:
        spool = MetricSpool(directory.metrics, background)
        meter = Meter(progress.step)
        how: Stop | None = None
        reserve = mmap(-1, RESERVE_BYTES)
        try:
            while progress.step < trainer.total_steps and (how := stop.wanted()) is None:
                outlet.ranks.decide("step")
                _one_step(trainer, spool, progress)
                if spool.is_due():
                    spool.flush()
                    background.do(say_if_room, outlet, progress.step, meter.steps_per_s(progress.step))
                if _is_multiple(progress.step, trainer.checkpoint_every):
                    save = partial(_save, trainer, outlet.ranks, directory, spool, progress)
                    save_if_room(save, outlet, progress, is_last=progress.step >= trainer.total_steps)
            if how != "now" and progress.saved < progress.step:
                _save(trainer, outlet.ranks, directory, spool, progress)
            outlet.ranks.decide("end")
        except BaseException:
            del reserve
            raise
        finally:
            spool.drain()
    outlet.status(progress.step, meter.steps_per_s(progress.step))
    return Result(outcome="completed" if how is None else "stopped", step=progress.step)


def follow(trainer: EngineTrainer, outlet: RunContext, progress: Progress) -> Result:
    """Train as the main rank decides, and hand over what its checkpoints hold of this one."""
    outlet.phase("training")
    while (word := outlet.ranks.decide()) != "end":
        if word == "step":
            trainer.train_step(progress.step + 1)
            progress.step += 1
        else:
            outlet.ranks.gather(_part(trainer))
    return Result(outcome="completed", step=progress.step)


def check_equal(trainer: EngineTrainer, ranks: Ranks, progress: Progress) -> None:
    """Make sure that all ranks begin with the same weights. Raises TrainingFailure on the main one."""
    if ranks.count > 1:
        _same_weights(ranks.gather(trainer.fingerprint()), progress.step)


def _part(trainer: EngineTrainer) -> dict[str, Any]:
    return {"fingerprint": trainer.fingerprint(), "state": trainer.rank_state()}


def _of_others(trainer: EngineTrainer, ranks: Ranks, step: int) -> list[Mapping[str, Any]]:
    """Return what a checkpoint holds of the other ranks, once all are known to have the same weights."""
    if ranks.count == 1:
        return []
    ranks.decide("save")
    parts = ranks.gather(_part(trainer))
    _same_weights([part["fingerprint"] for part in parts], step)
    return [part["state"] for part in parts[1:]]


def _same_weights(fingerprints: Sequence[str], step: int) -> None:
    if len(set(fingerprints)) > 1:
        listed = ", ".join(f"rank {rank} {found[:12]}" for rank, found in enumerate(fingerprints))
        message = f"After step {step} the ranks do not have the same weights: {listed}."
        hint = "An operation gave one of them other bits. Resume it at determinism strict, or report it."
        raise TrainingFailure("library", message, step=step, hint=hint)


def _one_step(trainer: EngineTrainer, spool: MetricSpool, progress: Progress) -> None:
    step = progress.step + 1
    started = time.perf_counter()
    metrics = trainer.train_step(step)
    spool.add(step, {**metrics, "perf/step_s": time.perf_counter() - started})
    progress.step = step
    # DeePMD also reports its first step, before the first full interval.
    if trainer.validate_every > 0 and (step == 1 or step % trainer.validate_every == 0):
        spool.add(step, trainer.validate(step))


def say_if_room(outlet: RunContext, step: int, steps_per_s: float | None) -> None:
    """Say where the training stands; while the disk is full nobody hears it, and the training goes on."""
    try:
        outlet.status(step, steps_per_s)
    except OSError as error:
        if not is_disk_full(error):
            raise


def save_if_room(save: Callable[[], None], outlet: RunContext, progress: Progress, *, is_last: bool) -> None:
    """Write a checkpoint, or go on from memory while the disk is full: the next one may fit. The last one has to."""
    try:
        save()
    except OSError as error:
        if not is_disk_full(error) or is_last:
            raise
        message = f"No space for the checkpoint of step {progress.step}: the job goes on, the last good one is of step"
        with suppress(OSError):  # not even room for these words: the job goes on all the same
            outlet.event("warning", f"{message} {progress.saved}. Free disk space on the worker.")


def _save(trainer: EngineTrainer, ranks: Ranks, directory: RunDir, spool: MetricSpool, progress: Progress) -> None:
    """Write a checkpoint once every loss up to here is known to be finite."""
    spool.drain()
    others = _of_others(trainer, ranks, progress.step)
    manifest = checkpoint.write(directory, trainer, progress.step, spool.latest, others)
    progress.saved = progress.step
    size = sum(file["size"] for file in manifest.files.values())
    # In the log only: the timeline says it once, when the server has verified what arrived.
    log.info(
        "checkpoint of step %d written (%.1f MB), weights %s", progress.step, size / 1e6, manifest.fingerprint[:12]
    )


def _is_multiple(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


class Meter:
    """Steps per second since the last question, smoothed."""

    def __init__(self, step: int) -> None:
        """`step` is the one that was done before."""
        self._step, self._time, self._rate = step, time.monotonic(), 0.0

    def steps_per_s(self, step: int) -> float | None:
        """Return the rate up to a step, None before the first."""
        now = time.monotonic()
        if step > self._step and now > self._time:
            rate = (step - self._step) / (now - self._time)
            self._rate = rate if self._rate == 0.0 else 0.7 * self._rate + 0.3 * rate
            self._step, self._time = step, now
        return self._rate or None
