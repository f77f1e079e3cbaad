"""Trainings that start from a base: what they begin with, and how they go on."""

import copy
import json

import pytest
import torch

from tests.worker.engines.deepmd.deepmd_runs import make_config, make_multi_task_config
from tests.worker.engines.deepmd.starting import file_of, inherited, make, trainer_of, weights_of
from tests.worker.engines.runs import Quiet, checkpoint_of, events_of, manifest_of, metrics_of
from worker.engines.deepmd import errands
from worker.engines.deepmd import trainer as engine_trainer
from worker.loop import StopSwitch
from worker.trainer import train

pytestmark = pytest.mark.deepmd


def _train(run):
    result = train(run, StopSwitch(run.stop))
    assert result.outcome == "completed", result
    return run


def test_init_begins_with_the_weights_of_its_base_and_looks_at_no_data(runs, straight):
    base = file_of(straight, 8)
    run, found = make(runs, inherited(make_config(steps=4, enable_ema=True), base), base, mode="init")
    assert set(found.counts) == {"copied"}
    trainer = trainer_of(run)
    expected = checkpoint_of(straight, 8)["model"]
    for name, value in weights_of(trainer).items():
        assert torch.equal(value, expected[name]), name
    for name, value in trainer._trainer.model_ema.shadow_params.items():
        assert torch.equal(value, expected[f"model.Default.{name}"]), name
    said = trainer._context
    assert said.phases == ["data", "model", "transfer"]
    assert said.events["transfer"][0].startswith("From water@3: ")
    assert said.events["transfer"][1]["kept"] == found.parameters
    assert said.events["fingerprint"] == (
        "Weights after the transfer from water@3.",
        {"step": 0, "stage": "transfer", "sha256": manifest_of(straight, 8).fingerprint},
    )


def test_a_resumed_attempt_goes_on_from_its_own_checkpoint(runs, straight):
    base = file_of(straight, 8)
    config = inherited(make_config(steps=8), base)
    run, _ = make(runs, config, base, mode="finetune")
    whole = _train(run)
    assert [(event["data"]["stage"], event["message"]) for event in events_of(whole, "fingerprint")] == [
        ("init", "Weights by the job's own seeds, before the transfer."),
        ("transfer", "Weights after the transfer from water@3."),
    ]
    rest = runs.train(config, resume_from=whole.checkpoints / "step-4", start={"mode": "finetune", "base": "water@3"})
    assert manifest_of(rest, 8).fingerprint == manifest_of(whole, 8).fingerprint
    assert events_of(rest, "transfer") == events_of(rest, "audit") == []
    [event] = events_of(rest, "fingerprint")
    assert event["data"] == {"step": 4, "stage": "checkpoint", "sha256": manifest_of(whole, 4).fingerprint}


def test_a_new_type_gets_statistics_of_the_data_and_weights_of_its_seed(runs, session_runs):
    """The base knows copper alone in its type map; gold comes from the new model's own beginning."""
    config = make_config("se_atten_v2", steps=4)
    whole = session_runs.train(config)
    base = file_of(whole, 4)
    changed = inherited(config, base, type_map=["Ag", "Au", "Cu"])
    run, found = make(runs, changed, base, mode="init")
    trainer = trainer_of(run)
    after, before = weights_of(trainer), checkpoint_of(whole, 4)["model"]
    bias = "model.Default.atomic_model.out_bias"
    assert torch.equal(after[bias][:, [2, 1]], before[bias])
    scratch = engine_trainer.DeepmdTrainer(runs.make(changed).read_spec(), Quiet(run.root))
    own = weights_of(scratch)
    assert torch.equal(after[bias][:, 0], own[bias][:, 0])
    for planned in found.tensors:
        if planned.component == "statistics":
            assert torch.equal(after[planned.name][0], own[planned.name][0]), planned.name
            assert torch.equal(after[planned.name][1:], before[planned.name][[1, 0]]), planned.name
    assert "statistics" in trainer._context.phases


def test_a_new_type_of_a_typed_descriptor_gets_its_own_networks(runs, session_runs):
    """Its rows of the statistics come from the data, those of the others from the base."""
    config = make_config(steps=4)
    config["model"] |= {"type_map": ["Cu", "Au", "Ag"]}
    config["model"]["descriptor"]["sel"] = [30, 20, 5]
    base = file_of(session_runs.train(config), 4)
    changed = inherited(config, base, type_map=["Pt", "Au", "Cu"])
    changed["model"]["descriptor"]["sel"] = [4, 20, 30]
    run, found = make(runs, changed, base, mode="finetune")
    assert {"copied", "remapped", "reinitialised", "refit", "unused"} == set(found.counts)
    trainer = trainer_of(run)
    after, before = weights_of(trainer), checkpoint_of(session_runs.train(config), 4)["model"]
    stddev = "model.Default.atomic_model.descriptor.sea.stddev"
    assert torch.equal(after[stddev][1, 4:24], before[stddev][1, 30:50])
    assert torch.equal(after[stddev][2, 24:54], before[stddev][0, :30])
    assert torch.isfinite(after[stddev]).all()
    network = "model.Default.atomic_model.descriptor.sea.filter_layers.networks.{}.layers.1.matrix"
    # Centre Au (1), neighbour Cu (2): 1 + 3·2; in the base centre Au (1), neighbour Cu (0): 1.
    assert torch.equal(after[network.format(7)], before[network.format(1)])
    assert _train(run)


def test_a_new_fitting_net_needs_no_statistics_of_descriptors(runs, straight):
    base = file_of(straight, 8)
    run, _ = make(runs, inherited(make_config(steps=4), base), base, mode="finetune", fitting="new")
    assert trainer_of(run)._context.phases == ["data", "model", "transfer"]


def test_automatic_numbers_of_neighbours_are_filled_in(runs, straight):
    base = file_of(straight, 8)
    config = inherited(make_config(steps=4), base, type_map=["Au", "Cu"])
    config["model"]["descriptor"]["sel"] = "auto"
    run, found = make(runs, config, base, mode="init")
    assert any(-1 in planned.shape for planned in found.tensors)
    trainer = trainer_of(run)
    assert trainer._context.phases == ["data", "neighbours", "model", "transfer"]
    old, new = checkpoint_of(straight, 8)["model"], weights_of(trainer)
    sel = trainer._config.model("Default")["descriptor"]["sel"]
    former = errands.inspect(base, "b").branches[0].model["descriptor"]["sel"]
    name = "model.Default.atomic_model.descriptor.sea.stddev"
    assert new[name].shape[1] == sum(sel)
    assert torch.equal(new[name][0, 0], old[name][1, former[0]])
    assert float(new["model.Default.min_nbor_dist"]) > 0


def test_tasks_that_share_a_descriptor_take_it_from_one_base(runs, session_runs):
    single = session_runs.train(make_config("se_atten_v2", steps=4) | _without_auto())
    base = file_of(single, 4)
    config = make_multi_task_config(steps=4)
    section = errands.inspect(base, "b").branches[0].model
    config["model"]["shared_dict"]["descriptor"] = {**section["descriptor"], "seed": 5}
    run, found = make(
        runs, config, base, mode="finetune", branch={"alloy": "Default", "metal": "Default"},
        fitting={"alloy": "reuse", "metal": "new"},
    )  # fmt: skip
    names = [name for planned in found.tensors for name in (planned.name, *planned.aliases)]
    assert len(names) == len(set(names))
    trainer = trainer_of(run)
    weights, before = weights_of(trainer), checkpoint_of(single, 4)["model"]
    for name, value in before.items():
        if ".descriptor." in name:
            for task in ("alloy", "metal"):
                assert torch.equal(weights[name.replace(".Default.", f".{task}.")], value), name
    matrix = "atomic_model.fitting_net.filter_layers.networks.0.layers.0.matrix"
    assert torch.equal(weights[f"model.alloy.{matrix}"], before[f"model.Default.{matrix}"])
    assert not torch.equal(weights[f"model.metal.{matrix}"], before[f"model.Default.{matrix}"])
    assert _train(run)


def test_tasks_share_the_statistics_of_a_new_type(runs, session_runs):
    """What the base lacks comes from the data of all tasks together, as in a training from scratch."""
    single = session_runs.train(make_config("se_atten_v2", steps=4) | _without_auto())
    base = file_of(single, 4)
    config = make_multi_task_config(steps=2)
    section = errands.inspect(base, "b").branches[0].model
    config["model"]["shared_dict"] = {
        "types": ["Ag", "Cu", "Au"],
        "descriptor": {**section["descriptor"], "seed": 5},
    }
    run, _ = make(runs, config, base, mode="finetune", branch={"alloy": "Default", "metal": "Default"})
    trainer = trainer_of(run)
    after, before = weights_of(trainer), checkpoint_of(single, 4)["model"]
    scratch = engine_trainer.DeepmdTrainer(runs.make(config).read_spec(), Quiet(run.root))
    own = weights_of(scratch)
    for task in ("alloy", "metal"):
        name = f"model.{task}.atomic_model.descriptor.se_atten.stddev"
        assert torch.equal(after[name][1:], before[name.replace(task, "Default")])
        assert torch.equal(after[name][0], own[name][0])
    assert _train(run)


def _without_auto():
    model = make_config("se_atten_v2")["model"]
    return {"model": {**model, "descriptor": {**model["descriptor"], "sel": 40}}}


def test_a_branch_of_several_becomes_a_model_of_its_own(runs, session_runs):
    several = session_runs.train(make_multi_task_config(steps=4))
    base = file_of(several, 4)
    facts = errands.inspect(base, "b")
    metal = next(branch for branch in facts.branches if branch.name == "metal")
    config = make_config("se_atten_v2", steps=4) | {"model": copy.deepcopy(metal.model)}
    run, found = make(runs, config, base, mode="init", branch="metal")
    before = checkpoint_of(several, 4)["model"]
    for name, value in weights_of(trainer_of(run)).items():
        assert torch.equal(value, before[name.replace(".Default.", ".metal.")]), name
    assert all("alloy" in planned.reason for planned in found.tensors if planned.verb == "unused")


def test_a_finished_training_goes_on_for_more_steps(runs, straight):
    config = make_config(steps=12)
    longer = runs.train(
        config, resume_from=straight.checkpoints / "step-8", start={"mode": "resume", "base": "water@3"}
    )
    assert list(metrics_of(longer)) == [9, 10, 11, 12]
    own = checkpoint_of(longer, 12)["cairn"]
    assert json.loads(own["config"]) == config
    assert (own["seed"], own["seeds"]) == (1, {})
    facts = errands.inspect(file_of(longer, 12), "b")
    assert (facts.step, facts.config, facts.seed) == (12, config, 1)


@pytest.mark.parametrize("change", ["other base", "less", "more"])
def test_a_plan_that_does_not_fit_ends_the_training(runs, straight, change):
    base = file_of(straight, 8)
    run, found = make(runs, inherited(make_config(steps=4), base), base, mode="init")
    spec = run.read_spec()
    if change == "other base":
        spec.plan.tensors[5].source = "model.Default.atomic_model.nothing"
    elif change == "less":
        del spec.plan.tensors[5]
    else:
        spec.plan.tensors.append(found.tensors[5])
    run.spec.write_text(spec.model_dump_json())
    result = train(run, StopSwitch(run.stop))
    assert result.outcome == "failed"
    assert result.cause.failure == "library"
    assert "The transfer plan does not fit" in result.cause.message
