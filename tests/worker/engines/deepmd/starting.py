"""Runs that start from a file of weights, planned as the control plane plans them."""

import copy

import torch
from deepmd.utils.argcheck import normalize

from app.engines.base import Base
from app.engines.deepmd.inventory import order
from app.engines.deepmd.transfer import plan
from app.wire.submission import Start
from tests.worker.engines.runs import Quiet
from worker.engines.deepmd import errands
from worker.engines.deepmd import trainer as engine_trainer


def file_of(run, step):
    [path] = (run.checkpoints / f"step-{step}").glob("*.pt")
    return path


def inherited(config, file, **model):
    """Return a config whose model section is the base's, with changes; seeds are its own."""
    section = errands.inspect(file, file.name).branches[0].model
    section["descriptor"]["seed"], section["fitting_net"]["seed"] = 21, 22
    return {**config, "model": {**section, **model}}


def make(runs, config, file, **start):
    """Return a run directory whose training starts from a file."""
    facts = errands.inspect(file, file.name)
    base = Base("water@3", "5" * 64, facts)
    begin = Start(base="water@3", **start)
    complete = config if "model_dict" in config["model"] else normalize(copy.deepcopy(config))
    found = plan(complete, {}, begin, base, errands.inventory(order(complete)))
    assert not isinstance(found, list), found
    run = runs.make(
        config, start=begin, plan=found, base={"name": "water@3", "file_name": "base.pt", "sha256": base.sha256}
    )
    (run.base / "base.pt").symlink_to(file)
    return run, found


def trainer_of(run):
    return engine_trainer.DeepmdTrainer(run.read_spec(), Said(run.root))


class Said(Quiet):
    """A context that remembers what it was told."""

    def __init__(self, root):
        super().__init__(root)
        self.phases, self.events = [], {}

    def phase(self, name):
        self.phases.append(name)

    def event(self, kind, message, data=None):
        self.events[kind] = (message, data)


def weights_of(trainer):
    state = trainer._trainer.wrapper.state_dict()
    return {name: value for name, value in state.items() if torch.is_tensor(value)}
