"""What the line engine does for the control plane beside training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from app.wire.models import BaseFacts, BranchFacts, Inventory, TensorFacts
from tests.engines.line.trainer import build
from worker.engines.base import RefusedFile


def inspect(path: Path, file_name: str) -> BaseFacts:
    saved = torch.load(path, weights_only=True)
    if not isinstance(saved, dict) or "tensors" not in saved:
        raise RefusedFile(f"{file_name} holds no line.")
    model = {"degree": saved["config"]["model"]["degree"]}
    return BaseFacts(
        engine="line",
        form="Cairn checkpoint",
        architecture=f"degree {model['degree']}",
        branches=[BranchFacts(name="", model=model, parameters=model["degree"] + 1)],
        tensors=_facts(saved["tensors"]),
        parameters=model["degree"] + 1,
        step=saved["step"],
        config=saved["config"],
        seed=saved["seed"],
        seeds=saved["seeds"],
    )


def inventory(order: Mapping[str, Any]) -> Inventory:
    return Inventory(tensors=_facts(build(order["degree"], 0)))


def _facts(tensors: Mapping[str, torch.Tensor]) -> list[TensorFacts]:
    return [
        TensorFacts(name=name, shape=list(tensor.shape), dtype="float64", is_parameter=True)
        for name, tensor in tensors.items()
    ]
