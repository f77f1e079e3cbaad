"""Starts a DeePMD model from a base: carries the transfer plan out, loads strictly, refits the output bias."""

from pathlib import Path
from typing import Any

import torch
from deepmd.pt.train.training import Trainer, model_change_out_bias
from deepmd.pt_expt.train.ema import ModelEMA

from app.engines.deepmd.transfer import settle
from app.wire.transfer import TransferPlan
from worker import transfer
from worker.engines.base import RefusedFile
from worker.engines.deepmd import statistics, weights
from worker.engines.deepmd.config import SINGLE_TASK, DeepmdConfig
from worker.failures import TrainingFailure

BIAS = ".atomic_model.out_bias"
DISTANCE = ".min_nbor_dist"
_OF_THE_DATA = (".mean", ".stddev", ".out_bias", ".out_std")
"""Tensors that a training from scratch takes from statistics of its data."""


class TrainerWithoutStatistics(Trainer):  # type: ignore[misc]
    """DeePMD's Trainer for a model whose statistics all come from a base: it computes none."""

    def _run_stat_on_chief(self, action: Any, *, operation: str) -> None:
        """Leave out what the constructor would compute from the data."""


def needs_statistics(plan: TransferPlan) -> bool:
    """Return whether any number must come from statistics of the new data as in a training from scratch."""
    return any(
        tensor.name.endswith(_OF_THE_DATA)
        and (tensor.verb == "reinitialised" or (tensor.verb == "remapped" and has_new(tensor.maps)))
        for tensor in plan.tensors
    )


def needs_neighbours(plan: TransferPlan) -> bool:
    """Return whether neighbours must be measured in the new data."""
    return any(tensor.verb == "refit" and tensor.name.endswith(DISTANCE) for tensor in plan.tensors)


def has_new(maps: Any) -> bool:
    """Return whether a remapped tensor has entries that the base does not have."""
    return any(index < 0 for item in maps for index in item.indices)


def start_from(plan: TransferPlan, file: Path, trainer: Trainer, config: DeepmdConfig) -> TransferPlan:
    """Give a trainer's model the weights that the plan says, and return the plan with every length known.

    Raises:
        TrainingFailure: The file or the model is not the one that was planned for.
    """
    found = _read(file)
    state = trainer.wrapper.state_dict()
    own = {name: value for name, value in state.items() if torch.is_tensor(value)}
    models = {task: config.model(task) for task in config.tasks}
    settled = settle(plan, models, {name: value.shape for name, value in own.items()})
    made = transfer.carry_out(settled, own, found.tensors, found.aliases)
    trainer.wrapper.load_state_dict({**state, **made})
    _refit(settled, trainer)
    if trainer.model_ema is not None:
        trainer.model_ema = ModelEMA(trainer.model, decay=trainer.ema_decay)
    return settled


def _read(file: Path) -> weights.Weights:
    try:
        return weights.read(file)
    except RefusedFile as error:
        raise TrainingFailure("configuration", f"The base model cannot be read: {error}", hint=error.hint) from error


def _refit(plan: TransferPlan, trainer: Trainer) -> None:
    """Refit planned output biases with DeePMD-kit's own code, on one thread: sums then do not depend on the machine."""
    for tensor in plan.tensors:
        if tensor.verb != "refit" or not tensor.name.endswith(BIAS):
            continue
        mode = "set-by-statistic" if tensor.source is None else "change-by-statistic"
        task = tensor.branch or SINGLE_TASK
        sample = trainer.get_sample_func[task] if trainer.multi_task else trainer.get_sample_func
        with statistics.one_thread():
            model_change_out_bias(models(trainer)[task], sample, _bias_adjust_mode=mode)


def models(trainer: Trainer) -> dict[str, Any]:
    """Return DeePMD's models by task."""
    return dict(trainer.model) if trainer.multi_task else {SINGLE_TASK: trainer.model}
