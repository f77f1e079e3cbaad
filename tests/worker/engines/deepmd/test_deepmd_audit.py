"""The seed audit: every component's weights follow its own seed, and one that does not ends the job with its name."""

import copy
import random

import numpy as np
import pytest
import torch
from deepmd.pt.model.descriptor.se_a import DescrptSeA
from deepmd.pt.model.descriptor.se_atten_v2 import DescrptSeAttenV2
from deepmd.pt.model.descriptor.se_t import DescrptSeT
from deepmd.pt.model.task.ener import EnergyFittingNet
from deepmd.pt.train import training
from deepmd.utils import random as dp_random

from app.engines import documents
from app.engines.deepmd.seeds import places
from tests.worker.engines.deepmd import model_files
from tests.worker.engines.deepmd.deepmd_runs import make_config, make_multi_task_config
from tests.worker.engines.deepmd.starting import file_of, inherited, make, trainer_of
from tests.worker.engines.runs import events_of
from worker.engines.deepmd import audit
from worker.engines.deepmd.config import SINGLE_TASK, DeepmdConfig
from worker.failures import TrainingFailure
from worker.loop import StopSwitch
from worker.trainer import train

pytestmark = pytest.mark.deepmd


class Built:
    """What the audit sees of DeePMD's trainer: the models."""

    def __init__(self, kind):
        self.written = (make_multi_task_config() if kind == "multi-task" else make_config(kind))["model"]
        wrapper = model_files.make_wrapper(kind)
        section = copy.deepcopy(wrapper.model_params)
        self.multi_task = "model_dict" in section
        self.model = wrapper.model if self.multi_task else wrapper.model[SINGLE_TASK]
        self.config = DeepmdConfig({"model": section}, self.multi_task, None)

    def check(self, plan=None):
        return audit.check(self, self.config, self.written, plan)


def _states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), dp_random.random()


@pytest.mark.parametrize("kind", model_files.KINDS)
def test_every_component_follows_its_own_seed_and_nothing_is_drawn(kind):
    built = Built(kind)
    dp_random.seed(5)
    before = _states()
    dp_random.seed(5)
    found = built.check()
    assert _states() == before
    assert {finding.verdict for finding in found.values()} == {"own-seed"}
    expected = {".".join(map(str, path)) for path in places({"model": built.written})} - {"training"}
    assert found.keys() == expected
    for name, finding in found.items():
        assert finding.key == "/" + name.replace(".", "/") + "/seed"
        assert finding.seed == documents.lookup({"model": built.written}, finding.key)
        assert len(finding.sha256) == 64


def test_parts_that_tasks_share_are_found_behind_their_names():
    shared, own = {"type": "se_e2_a", "seed": 1}, {"type": "se_e2_r", "seed": 2}
    net = {"seed": 3}
    written = {
        "shared_dict": {"types": ["H"], "part": shared, "net": net},
        "model_dict": {
            "a": {"descriptor": {"type": "hybrid", "list": [own, "part:1"]}, "fitting_net": "net"},
            "b": {"descriptor": "part", "fitting_net": {"seed": 4}},
        },
    }
    assert [(part.component.key, part.module) for part in audit.parts(written, "a")] == [
        ("/model/model_dict/a/descriptor/list/0/seed", "atomic_model.descriptor.descrpt_list.0."),
        ("/model/shared_dict/part/seed", "atomic_model.descriptor.descrpt_list.1."),
        ("/model/shared_dict/net/seed", "atomic_model.fitting_net."),
    ]
    assert [part.component.key for part in audit.parts(written, "b")] == [
        "/model/shared_dict/part/seed",
        "/model/model_dict/b/fitting_net/seed",
    ]


# --- planted bugs -----------------------------------------------------------------------------------------------------


def _draw_from_the_global_generator(monkeypatch, kind):
    """Let a part of DeePMD's models ignore its seed."""
    original = kind.__init__

    def init(self, *args, **options):
        original(self, *args, **{**options, "seed": None})

    monkeypatch.setattr(kind, "__init__", init)


def _change_every_section(monkeypatch, change):
    """Let DeePMD build every model from another section than it was given."""
    original = training.get_model

    def get_model(section):
        change(section)
        return original(section)

    monkeypatch.setattr(training, "get_model", get_model)


def _refusal(kind):
    with pytest.raises(TrainingFailure) as caught:
        Built(kind).check()
    assert caught.value.cause.failure == "configuration"
    assert caught.value.cause.hint
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "part", "name", "seed"),
    [
        ("se_e2_a", DescrptSeA, "model.descriptor", 11),
        ("dpa2", EnergyFittingNet, "model.fitting_net", 12),
        ("hybrid", DescrptSeT, "model.descriptor.list.1", 2),
        ("multi-task", DescrptSeAttenV2, "model.shared_dict.descriptor", 11),
    ],
)
def test_a_component_that_draws_from_the_global_generator_is_named(monkeypatch, kind, part, name, seed):
    _draw_from_the_global_generator(monkeypatch, part)
    key = "/" + name.replace(".", "/") + "/seed"
    assert _refusal(kind).startswith(f"The initial weights of {name} are not decided by its seed ({key} = {seed}): ")


def test_a_component_with_a_fixed_seed_is_named(monkeypatch):
    _change_every_section(monkeypatch, lambda section: section["fitting_net"].update(seed=5))
    assert _refusal("se_e2_a").startswith(
        "The seed of model.fitting_net (/model/fitting_net/seed = 12) does not reach its weights: "
    )


def test_a_component_of_a_later_task_is_named_whose_descriptor_is_not_built_again(monkeypatch):
    def change(section):
        if section["fitting_net"]["seed"] != 3:
            section["fitting_net"]["seed"] = 5

    _change_every_section(monkeypatch, change)
    assert _refusal("multi-task").startswith(
        "The seed of model.model_dict.metal.fitting_net (/model/model_dict/metal/fitting_net/seed = 4) does not reach"
    )


def test_a_component_that_follows_another_ones_seed_is_named(monkeypatch):
    def mix(section):
        section["fitting_net"]["seed"] += section["descriptor"]["seed"]

    _change_every_section(monkeypatch, mix)
    assert _refusal("se_e2_a").startswith(
        "The weights of model.fitting_net do not depend on its own seed (/model/fitting_net/seed = 12) alone: "
        "changing that of model.descriptor (/model/descriptor/seed = 11) changed them, too"
    )


def test_a_job_whose_seed_does_not_arrive_fails_before_its_first_step(runs, monkeypatch):
    _draw_from_the_global_generator(monkeypatch, DescrptSeA)
    run = runs.make(make_config())
    result = train(run, StopSwitch(run.stop))
    assert (result.outcome, result.step, result.cause.failure) == ("failed", 0, "configuration")
    assert "model.descriptor" in result.cause.message
    assert "/model/descriptor/seed = 11" in result.cause.message


# --- on the timeline --------------------------------------------------------------------------------------------------


def test_a_job_tells_what_was_found(straight):
    [event] = events_of(straight, "audit")
    assert event["message"] == "Initial weights of 2 components checked: 2 decided by their own seeds alone."
    assert {name: (about["key"], about["seed"], about["verdict"]) for name, about in event["data"].items()} == {
        "model.descriptor": ("/model/descriptor/seed", 11, "own-seed"),
        "model.fitting_net": ("/model/fitting_net/seed", 12, "own-seed"),
    }
    assert all(len(about["sha256"]) == 64 for about in event["data"].values())


def test_of_a_start_from_a_base_the_parts_drawn_anew_are_looked_at(runs, straight):
    base = file_of(straight, 8)
    config = inherited(make_config(steps=4), base)
    kept, _ = make(runs, config, base, mode="init")
    assert {one["verdict"] for one in trainer_of(kept)._context.events["audit"][1].values()} == {"from-base"}
    run, _ = make(runs, config, base, mode="finetune", fitting="new")
    found = trainer_of(run)._context.events["audit"]
    assert {name: one["verdict"] for name, one in found[1].items()} == {
        "model.descriptor": "from-base",
        "model.fitting_net": "own-seed",
    }
    assert found[0] == (
        "Initial weights of 2 components checked: 1 decided by their own seeds alone, 1 taken from the base."
    )
