"""The trainer process: reads a run directory, does what it says, writes only files. `python -m worker.trainer RUNDIR`."""

import faulthandler
import importlib
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from app.engines import registry
from worker import determinism, environment
from worker.context import FollowerContext, RunContext, Stopped
from worker.engines.base import EngineTask, EngineTrainer, ResumableTask
from worker.failures import TrainingFailure, cause_of
from worker.launcher import launch
from worker.loop import Progress, StopSwitch, check_equal, follow, run
from worker.process import redirect_output
from worker.ranks import ALONE, PeerLost, Ranks
from worker.rundir import Result, RunDir, RunSpec, write_json
from worker.spool import NonFiniteLoss
from worker.work import work

_HINT_NON_FINITE = (
    "Checkpoints before that step are good. Look at the data and at the learning rate; a training with another one is a new "
    "job (`cairn clone JOB --set …`), which may start from such a checkpoint (`--base job:JOB`)."
)


def main(rundir: str | os.PathLike[str]) -> int:
    """Do what RUNDIR/spec.json says, write RUNDIR/result.json, return 0 unless it failed.

    To be called once per process: it takes over stdout, stderr and the signal handlers. CUDA_VISIBLE_DEVICES must be
    set before. No exception leaves it.
    """
    directory = RunDir(Path(rundir).resolve())
    directory.create()
    redirect_output(directory.log)
    faulthandler.enable()
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    stop = StopSwitch(directory.stop)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.signal())
    # A forkserver may have blocked them, so that none is lost before this line.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    result = _all_ranks(directory, stop)
    print(result.model_dump_json(exclude={"cause": {"detail"}}), flush=True)  # noqa: T201 - stdout is the log
    write_json(directory.result, result)
    return 1 if result.outcome == "failed" else 0


def _all_ranks(directory: RunDir, stop: StopSwitch) -> Result:
    """Do the job in this process, or in one for each rank where it has several."""
    try:
        spec = directory.read_spec()
        if spec.ranks > 1:
            return launch(directory, spec.ranks, stop, train)
    except Exception as error:  # noqa: BLE001 - every end becomes a Result
        return _failed(error, RunContext(directory), 0)
    return train(directory, stop)


def train(directory: RunDir, stop: StopSwitch, ranks: Ranks = ALONE) -> Result:
    """Do a whole job in this process, or a rank's part of it; a failure comes back as a Result with its cause.

    Raises PeerLost when another rank is gone, whose end says why.
    """
    outlet = RunContext(directory, ranks, stop.wanted) if ranks.is_main else FollowerContext(directory, ranks)
    progress = Progress(step=0, saved=0)
    try:
        spec = directory.read_spec()
        if spec.kind != "train":
            return work(_prepare_task(spec, directory, outlet, progress), outlet, directory, stop, progress)
        trainer = _prepare(spec, directory, outlet, progress)
        if not ranks.is_main:
            return follow(trainer, outlet, progress)
        return run(trainer, outlet, directory, stop, progress)
    except PeerLost:
        raise
    except Stopped:
        return Result(outcome="stopped", step=progress.step or directory.read_spec().resume_step or 0)
    except NonFiniteLoss as error:
        failure = TrainingFailure("non-finite", str(error), step=error.step, hint=_HINT_NON_FINITE)
        return _failed(failure, outlet, error.step)
    except Exception as error:  # noqa: BLE001 - every end becomes a Result
        return _failed(error, outlet, progress.step)


def _prepare(spec: RunSpec, directory: RunDir, outlet: RunContext, progress: Progress) -> EngineTrainer:
    """Set the process up, record what it runs on, build the engine's trainer and restore it."""
    outlet.phase("starting")
    level = determinism.apply(spec.determinism, spec.threads or _share_of_cores(spec))
    trainer = _engine_trainer(spec)(spec, outlet)
    _count(trainer, spec, outlet)
    outlet.ranks.connect()
    _record(directory, level, outlet.ranks)
    if spec.resume_step is not None:
        _restore(trainer, spec, directory, outlet, progress)
    check_equal(trainer, outlet.ranks, progress)
    return trainer


def _restore(
    what: EngineTrainer | ResumableTask, spec: RunSpec, directory: RunDir, outlet: RunContext, progress: Progress
) -> None:
    outlet.phase("restoring")
    progress.step = progress.saved = what.restore(directory.resume)
    assert progress.step == spec.resume_step, f"the checkpoint holds step {progress.step}, not {spec.resume_step}"
    outlet.status(progress.step)


def _share_of_cores(spec: RunSpec) -> int | None:
    """Return the threads of a rank where nobody has said how many; None: a process by itself takes all cores."""
    return max(1, len(os.sched_getaffinity(0)) // spec.ranks) if spec.ranks > 1 else None


def _record(directory: RunDir, level: dict[str, Any], ranks: Ranks) -> None:
    """Record what all ranks run on."""
    found = environment.record(level)
    gpus = ranks.gather(found["gpus"])
    if ranks.count > 1:
        found |= {"gpus": [gpu for of_rank in gpus for gpu in of_rank]}
        found |= {"ranks": {"count": ranks.count, "backend": ranks.backend}}
    if ranks.is_main:
        write_json(directory.environment, found)


def _count(trainer: EngineTrainer, spec: RunSpec, outlet: RunContext) -> None:
    """Say how many steps there are. What was known before, from the config or another execution, still has to hold."""
    done = spec.resume_step or 0
    if trainer.total_steps < done:
        message = f"The data make {trainer.total_steps} steps, and the checkpoint has done {done}: nothing is left."
        raise TrainingFailure("configuration", message, hint="Ask for more steps; they count from the very beginning.")
    if spec.total_steps not in (0, trainer.total_steps):
        message = f"The data make {trainer.total_steps} steps here, but the job has {spec.total_steps}."
        hint = "Another version of a library may read them otherwise: compare what the job's executions ran on."
        raise TrainingFailure("data", message, hint=hint)
    outlet.known(trainer.total_steps)


def _prepare_task(spec: RunSpec, directory: RunDir, outlet: RunContext, progress: Progress) -> EngineTask:
    """Set the process up, record what it runs on, build what the engine has for this kind of job, and restore it."""
    outlet.phase("starting")
    level = determinism.apply(spec.determinism, spec.threads)
    write_json(directory.environment, environment.record(level))
    known = registry.task(spec.engine, spec.kind)
    if known is None:
        raise TrainingFailure("configuration", f"This worker has no engine {spec.engine!r} for {spec.kind}.")
    kind: type[EngineTask] = _load(known.worker)
    task = kind(spec, outlet)
    if spec.resume_step is not None:
        assert isinstance(task, ResumableTask), f"jobs of kind {spec.kind} have no checkpoints"
        _restore(task, spec, directory, outlet, progress)
    return task


def _engine_trainer(spec: RunSpec) -> type[EngineTrainer]:
    engine = registry.get(spec.engine)
    if engine is None:
        raise TrainingFailure("configuration", f"This worker has no engine {spec.engine!r}.")
    found: type[EngineTrainer] = _load(engine.trainer)
    return found


def _load(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def _failed(error: Exception, outlet: RunContext, step: int) -> Result:
    traceback.print_exception(error)
    return Result(outcome="failed", step=step, cause=cause_of(error, outlet.current_phase, step or None))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m worker.trainer RUNDIR")
    sys.exit(main(sys.argv[1]))
