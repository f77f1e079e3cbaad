"""What a test runs in a trainer process in place of `worker.trainer:main`: the same training, disturbed on purpose."""

import importlib
import json
import os
import random
import signal
import sys

import numpy as np
import torch

from app.engines import registry
from worker import checkpoint, trainer
from worker.context import RunContext
from worker.rundir import RunDir

MOMENTS = ("before the step", "after the step", "while a checkpoint is written", "before its manifest")


def stir():
    """Put every global generator into a state that nobody knows."""
    random.seed()
    np.random.seed()
    torch.seed()
    if "deepmd.utils.random" in sys.modules:  # DeePMD-kit has a generator of its own
        sys.modules["deepmd.utils.random"].seed(random.getrandbits(31))


def trainer_of(rundir):
    """Return the class that trains what a run directory says."""
    module, _, name = registry.get(RunDir(rundir).read_spec().engine).trainer.partition(":")
    return getattr(importlib.import_module(module), name)


def poisoned(rundir):
    """Train while somebody else draws from every global generator, before every phase, step and validation."""
    engine = trainer_of(rundir)
    for kind, name in ((RunContext, "phase"), (engine, "train_step"), (engine, "validate")):
        _before(kind, name, lambda *_: stir())
    return trainer.main(rundir)


def paused(rundir):
    """Train until somebody writes the stop file while the step is done that RUNDIR/accident.json names."""
    step = json.loads((rundir / "accident.json").read_text())["step"]

    def stop_at(_, at):
        if at == step:
            RunDir(rundir).stop.write_text("checkpoint")

    _after(trainer_of(rundir), "train_step", stop_at)
    return trainer.main(rundir)


def killed(rundir):
    """Train until the step and the moment that RUNDIR/accident.json names, and be killed there."""
    accident = json.loads((rundir / "accident.json").read_text())
    step, moment = accident["step"], accident["moment"]

    def kill(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_at(_, at):
        if at == step:
            kill()

    if moment == "before the step":
        _before(trainer_of(rundir), "train_step", kill_at)
    elif moment == "after the step":
        _after(trainer_of(rundir), "train_step", kill_at)
    elif moment == "while a checkpoint is written":
        _after(trainer_of(rundir), "save", lambda _, __, at, *___: at >= step and kill())
    else:
        _before(checkpoint, "write_json", lambda _, manifest: manifest.step >= step and kill())
    return trainer.main(rundir)


def _before(holder, name, do):
    original = getattr(holder, name)

    def disturbed(*args):
        do(*args)
        return original(*args)

    setattr(holder, name, disturbed)


def _after(holder, name, do):
    original = getattr(holder, name)

    def disturbed(*args):
        done = original(*args)
        do(*args)
        return done

    setattr(holder, name, disturbed)
