"""A relaxation job's runs once more, in a process that has done nothing before: `python -m worker.engines.deepmd.again`.

RUNDIR PLACE FORM THREADS: prints a line for each frame, so that who waits can count them, and leaves trajectories in PLACE.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import worker
from worker import determinism
from worker.failures import TrainingFailure
from worker.rundir import RunDir

FRAME = b"frame\n"


def in_fresh_process(run: RunDir, place: Path, form: str, threads: int) -> Iterator[None]:
    """Do the runs of a run directory in another process, and yield once for each of its frames.

    Raises:
        TrainingFailure: it did not come to its end.
    """
    order = [sys.executable, "-m", "worker.engines.deepmd.again", str(run.root), str(place), form, str(threads)]
    paths = [str(Path(worker.__path__[0]).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # Its stderr is the log, as ours is; libraries that print there do not pass for frames.
    process = subprocess.Popen(  # noqa: S603 - ourselves
        order, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None, "it is a pipe"
    try:
        for line in process.stdout:
            if line == FRAME:
                yield
        if process.wait() != 0:
            message = f"Doing it again in a fresh process ended with status {process.returncode}."
            raise TrainingFailure("library", message, hint="The log says why.")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def main(root: str, place: str, form: str, threads: str) -> None:
    """Do all runs, as the trainer does."""
    from worker.engines.deepmd import opening, relaxations

    run = RunDir(Path(root))
    spec = run.read_spec()
    determinism.apply(spec.determinism, int(threads))
    opening.repeatably()
    files = [relaxations.model_file(run, model, spec.config["head"], form) for model in spec.models]
    work = relaxations.Work(run, spec, [opening.opened(path, head) for path, head in files])
    for _ in work.done(Path(place)):
        sys.stdout.buffer.write(FRAME)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
