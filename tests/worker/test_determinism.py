"""Level strict: an operation that cannot be deterministic ends the training with its name."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from app.engines import registry
from worker import determinism
from worker.loop import StopSwitch
from worker.rundir import Result, RunDir, RunSpec, write_json
from worker.trainer import train


class Scatterer:
    """A training whose third step writes to equal places, in whatever order."""

    total_steps, checkpoint_every, validate_every = 3, 0, 0

    def __init__(self, _spec: RunSpec, _context: Any) -> None:
        self.weight = torch.zeros(4)

    def train_step(self, step: int) -> dict[str, float]:
        if step == 3:
            self.weight.put_(torch.tensor([1, 1]), torch.tensor([1.0, 2.0]))
        return {"train/loss": 1.0, "lr": 0.1}

    def non_finite_weight(self) -> None:
        return None

    def save(self, directory: Path, _step: int, _others: object) -> dict[str, str]:
        (directory / "w").write_bytes(b"w")
        return {"w": "checkpoint"}

    def fingerprint(self) -> str:
        return "f" * 64

    def generators(self, _step: int) -> dict[str, str]:
        return {}


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Train at a level; torch is as before afterwards."""
    engine = SimpleNamespace(name="scatterer", trainer=f"{__name__}:Scatterer", tasks={})
    monkeypatch.setattr(registry, "ENGINES", (engine,))
    monkeypatch.setattr(os, "environ", os.environ.copy())
    threads = torch.get_num_threads()

    def go(level: determinism.Determinism) -> Result:
        directory = RunDir(tmp_path)
        directory.create()
        spec = {
            "engine": "scatterer", "job_name": "s", "config": {}, "submitted": {}, "datasets": {}, "seed": 1, "seeds": {},
            "determinism": level, "total_steps": 3, "checkpoints": {}, "file_stem": "s", "threads": 1,
        }  # fmt: skip
        write_json(directory.spec, RunSpec.model_validate(spec))
        return train(directory, StopSwitch(directory.stop))

    yield go
    determinism.apply("seeded", threads)


def test_an_operation_without_a_deterministic_form_is_named(trained: Any) -> None:
    result = trained("strict")
    cause = result.cause
    assert (result.outcome, result.step, cause.failure, cause.step) == ("failed", 2, "configuration", 2)
    assert cause.message == "The operation put_ has no deterministic implementation, which level strict asks for."
    assert "`determinism: seeded`" in cause.hint
    assert "put_ does not have a deterministic implementation" in cause.detail


def test_level_seeded_allows_it(trained: Any) -> None:
    assert trained("seeded").outcome == "completed"
