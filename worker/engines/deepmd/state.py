"""A training's whole state in one file that stock `dp --pt` reads as well."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import deepmd
import torch
from deepmd.pt.train.training import Trainer
from deepmd.pt.utils.env import DEVICE
from deepmd.pt_expt.train.ema import EMA_CHECKPOINT_KEY

from app.engines.seeds import DATA_ORDER_RULE
from worker import rng
from worker.engines.deepmd import generators
from worker.failures import TrainingFailure
from worker.ranks import Ranks
from worker.rundir import RunSpec

FORMAT = 1
"""Version of what stands under the key `cairn`. Keys may be added: `config`, `seed` and `seeds` are not in the oldest."""


def of_generators() -> dict[str, Any]:
    """Return the states of all generators of this process."""
    return {"rng": rng.get_state(), "dp_random": generators.own_state()}


def save(
    trainer: Trainer, path: Path, step: int, order_seed: int, spec: RunSpec, others: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write the state after `step` steps; `others` are `of_generators` of the other ranks.

    DeePMD-kit restarts at index `train_infos.step`, counted from 0. It writes N - 1 there after step N and so does
    step N twice (3.2.0, training.py); N makes `dp --restart` go on with step N + 1.
    """
    infos = trainer.wrapper.train_infos
    infos["step"], infos["lr"] = step, float(trainer.lr_schedule.value(max(0, step - 1)))
    model, optimizer = trainer._collect_checkpoint_states()
    for group in optimizer["param_groups"]:
        group["lr"] = float(group["lr"])
    data: dict[str, Any] = {"model": model, "optimizer": optimizer}
    if trainer.model_ema is not None:
        data[EMA_CHECKPOINT_KEY] = trainer.model_ema.state_dict()
    data["cairn"] = {
        "format": FORMAT,
        "step": step,
        **of_generators(),
        "order": {"rule": DATA_ORDER_RULE, "seed": order_seed},
        "model": json.dumps(trainer.wrapper.model_params),
        "config": json.dumps(spec.config),
        "seed": spec.seed,
        "seeds": dict(spec.seeds),
        "versions": {"deepmd-kit": deepmd.__version__, "torch": str(torch.__version__)},
    }
    if others:
        data["cairn"]["ranks"] = {"count": 1 + len(others), "others": [dict(other) for other in others]}
    # Through a file of ours: given a path, torch reports a full disk as an internal error of its own.
    with path.open("wb") as file:
        torch.save(data, file)


def find(directory: Path) -> Path:
    """Return the one checkpoint file in `directory`."""
    found = sorted(directory.glob("*.pt"))
    if len(found) != 1:
        raise TrainingFailure("library", f"{directory} holds {len(found)} checkpoint files instead of one.")
    return found[0]


def read(path: Path) -> dict[str, Any]:
    """Return a checkpoint with its tensors on the device. Never runs code from the file."""
    data: dict[str, Any] = torch.load(path, map_location=DEVICE, weights_only=True)
    own = data.get("cairn")
    if own is None or own["format"] != FORMAT:
        message = f"{path.name} was not written by this version of Cairn: it cannot be continued exactly."
        raise TrainingFailure("configuration", message, hint="Start from its weights instead (start mode init).")
    return data


def model_section(data: dict[str, Any]) -> dict[str, Any]:
    """Return the model section that a checkpoint was trained with, `sel: auto` already resolved."""
    section: dict[str, Any] = json.loads(data["cairn"]["model"])
    return section


def restore(trainer: Trainer, data: dict[str, Any], order_seed: int, ranks: Ranks) -> int:
    """Load weights, optimizer, schedule, EMA and every generator; return the number of steps done."""
    own = data["cairn"]
    of_rank = ranks.own_part(own)
    if own["order"] != {"rule": DATA_ORDER_RULE, "seed": order_seed}:
        raise TrainingFailure("configuration", f"The checkpoint's data order {own['order']} is not this job's.")
    step = int(own["step"])
    trainer.wrapper.load_state_dict(data["model"])
    _load_optimizer(trainer.optimizer, data["optimizer"])
    trainer.start_step = step
    trainer.scheduler = trainer._create_lr_scheduler(trainer.optimizer, trainer.lr_schedule, step)
    if trainer.model_ema is not None:
        trainer.model_ema.load_state_dict(data[EMA_CHECKPOINT_KEY])
    generators.set_own_state(of_rank["dp_random"])
    rng.set_state(of_rank["rng"])
    return step


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load an optimizer's state with the dtypes it was saved with.

    torch casts every floating-point state to its parameter's dtype; DeePMD's Muon optimizers keep float32 moments
    beside float64 parameters and would go on with other bits.
    """
    optimizer.load_state_dict(saved)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        for key, value in saved["state"].get(number, {}).items():
            if torch.is_tensor(value) and optimizer.state[parameter][key].dtype != value.dtype:
                optimizer.state[parameter][key] = value.to(parameter.device).clone()
