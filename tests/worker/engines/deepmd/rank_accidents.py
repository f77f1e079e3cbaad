"""What a test runs in place of `worker.trainer:main`: a training of several ranks, disturbed in one of them."""

import json
import os
import signal
import time

import torch

from worker import trainer
from worker.engines.deepmd.trainer import DeepmdTrainer

original = DeepmdTrainer.train_step


def main(rundir):
    """Train until the step of the rank that RUNDIR/accident.json names, and let happen there what it says."""
    accident = json.loads((rundir / "accident.json").read_text())

    def disturbed(self, step):
        if (self._ranks.rank, step) == (accident["rank"], accident["step"]):
            HAPPENINGS[accident["how"]](self)
        return original(self, step)

    DeepmdTrainer.train_step = disturbed
    return trainer.main(rundir)


def _fail(_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def _drift(self):
    """Be wrong in one bit, as a broken memory would be."""
    with torch.no_grad():
        next(self._trainer.wrapper.parameters()).view(-1)[0].add_(1e-12)


def _ask(_):
    """Ask for a stop, and let nobody come to the last step before the wish is passed on."""
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(3)


HAPPENINGS = {
    "killed": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "crashed": lambda _: os.kill(os.getpid(), signal.SIGSEGV),
    "launcher killed": lambda _: os.kill(os.getppid(), signal.SIGKILL),
    "asked to stop": _ask,
    "failed": _fail,
    "drifted": _drift,
}
