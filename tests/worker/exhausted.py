"""A trainer that is left without any memory, again and again: `python -m tests.worker.exhausted DIRECTORY TIMES`."""

import os
import resource
import sys
from pathlib import Path

from tests.worker.test_loop import Walk
from worker.context import RunContext
from worker.failures import cause_of
from worker.loop import Progress, StopSwitch, run
from worker.rundir import RunDir


class Hungry(Walk):
    """From step 5 on it takes all the memory that there is, to the last byte, and keeps it."""

    def train_step(self, step):
        if step == 5:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(),) * 2)
            self.kept = []
        if step >= 5:
            try:
                while True:
                    self.kept.append(bytearray(16))
            except MemoryError:
                pass  # what comes next is the first that has none
        return super().train_step(step)


def train(root: Path) -> int:
    directory = RunDir(root)
    directory.create()
    progress = Progress(step=0, saved=0)
    try:
        run(Hungry(500), RunContext(directory), directory, StopSwitch(directory.stop), progress)
    except (MemoryError, RuntimeError) as error:
        cause = cause_of(error, "training", progress.step)
        print(cause.failure, flush=True)  # noqa: T201 - what the test reads
    return 0


if __name__ == "__main__":
    for number in range(int(sys.argv[2])):
        child = os.fork()
        if child == 0:
            os._exit(train(Path(sys.argv[1]) / str(number)))
        os.waitpid(child, 0)
