"""Starts a model from a base: carries the transfer plan out, rows of a larger or smaller vocabulary included."""

from collections.abc import Mapping

import torch

from app.wire.transfer import TransferPlan
from worker import transfer
from worker.engines.minimind.weights import Weights


@torch.no_grad()
def start_from(plan: TransferPlan, base: Weights, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write into a new model's tensors what the plan says of the base's.

    Raises:
        TrainingFailure: The file or the model is not the one that was planned for.
    """
    for name, tensor in transfer.carry_out(plan, tensors, base.tensors, base.aliases).items():
        tensors[name].copy_(tensor)
