"""The torch half of the line engine: gradient descent on all points at once."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

import torch

from tests.engines.line.engine import ENGINE
from worker import checkpoint, rng, transfer
from worker.engines.base import Context
from worker.rundir import RunDir, RunSpec


def build(degree: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weights": torch.randn(degree, generator=generator, dtype=torch.float64),
        "offset": torch.zeros(1, dtype=torch.float64),
    }


class LineTrainer:
    """One fit."""

    def __init__(self, spec: RunSpec, context: Context) -> None:
        self._spec, config, run = spec, spec.config, RunDir(context.root)
        self.total_steps, self.checkpoint_every, self.validate_every = config["steps"], config["every"], 0
        name = config["data"].removeprefix("dataset:")
        points = torch.tensor(json.loads((run.data / name / "points.json").read_bytes()), dtype=torch.float64)
        self._powers = points[:, :1] ** torch.arange(1, config["model"]["degree"] + 1)
        self._wanted = points[:, 1]
        self.tensors = build(config["model"]["degree"], spec.seeds["model"])
        self._keep_mean(context)
        if spec.plan is not None and spec.resume_step is None and spec.base is not None:
            base = torch.load(run.base / spec.base.file_name, weights_only=True)["tensors"]
            self.tensors = transfer.carry_out(spec.plan, self.tensors, base, {})
            context.event("transfer", *transfer.summary(spec.plan))

    def _keep_mean(self, context: Context) -> None:
        ((kind, key),) = ENGINE.artifact_keys(self._spec.config, self._spec.datasets).items()
        if context.artifact(kind, key) is None:
            context.keep(kind, key, repr(float(self._wanted.mean())).encode())

    def train_step(self, step: int) -> Mapping[str, SupportsFloat]:
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in self.tensors.items()}
        loss = (self._powers @ leaves["weights"] + leaves["offset"] - self._wanted).square().mean()
        loss.backward()
        rate = self._spec.config["learning_rate"]
        self.tensors = {name: (tensor - rate * tensor.grad).detach() for name, tensor in leaves.items()}
        return {"train/loss": loss.detach(), "train/slope": self.tensors["weights"][0], "lr": rate}

    def validate(self, step: int) -> Mapping[str, SupportsFloat]:
        return {}

    def non_finite_weight(self) -> str | None:
        return checkpoint.first_non_finite(self.tensors)

    def rank_state(self) -> Mapping[str, Any]:
        return {"rng": rng.get_state()}

    def save(self, directory: Path, step: int, others: Sequence[Mapping[str, Any]] = ()) -> Mapping[str, str]:
        name = f"{self._spec.file_stem}-step{step}.pt"
        about = {"config": self._spec.config, "seed": self._spec.seed, "seeds": self._spec.seeds}
        torch.save({"step": step, "tensors": self.tensors, **about}, directory / name)
        return {name: "checkpoint"}

    def restore(self, directory: Path) -> int:
        (file,) = directory.glob("*.pt")
        saved: dict[str, Any] = torch.load(file, weights_only=True)
        self.tensors = saved["tensors"]
        return int(saved["step"])

    def fingerprint(self) -> str:
        return checkpoint.fingerprint(self.tensors)

    def generators(self, step: int) -> Mapping[str, str]:
        return {}
