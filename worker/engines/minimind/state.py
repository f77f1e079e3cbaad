"""A training's whole state in one file, from which it goes on with the same bits."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

from app.engines.seeds import DATA_ORDER_RULE
from worker import rng
from worker.engines.minimind import names
from worker.engines.minimind.optimisation import Optimisation
from worker.engines.minimind.tokenizer import Tokenizer
from worker.failures import TrainingFailure
from worker.ranks import Ranks
from worker.rundir import RunSpec

FORMAT = 1
"""Version of what stands under the key `cairn`. Keys may be added."""


def save(
    path: Path,
    training: Optimisation,
    tokenizer: Tokenizer,
    step: int,
    spec: RunSpec,
    others: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the state after `step` steps: tensors under MiniMind's names, everything else as torch has it.

    `others` are the generators and gradients of the other ranks.
    """
    data: dict[str, Any] = {"model": names.tensors(training.model), **training.state()}
    files = tokenizer.files()
    data["cairn"] = {
        "format": FORMAT,
        "engine": spec.engine,
        "step": step,
        "rng": rng.get_state(),
        "order": _order(spec),
        "tokenizer": files["tokenizer.json"],
        "tokenizer_config": files["tokenizer_config.json"],
        "config": json.dumps(spec.config),
        "seed": spec.seed,
        "seeds": dict(spec.seeds),
        "versions": {
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "torch": str(torch.__version__),
        },
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
    """Return a checkpoint, on the CPU. Never runs code from the file."""
    data: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    own = data.get("cairn")
    if own is None or own["format"] != FORMAT or own.get("engine") != "minimind":
        message = (
            f"{path.name} was not written by this engine of this version of Cairn: it cannot be continued exactly."
        )
        raise TrainingFailure("configuration", message, hint="Start from its weights instead (start mode init).")
    return data


def tokenizer_of(data: dict[str, Any]) -> Tokenizer:
    """Return the tokenizer that a checkpoint was trained with."""
    return Tokenizer(data["cairn"]["tokenizer"], json.loads(data["cairn"]["tokenizer_config"]))


@torch.no_grad()
def restore(data: dict[str, Any], training: Optimisation, spec: RunSpec, ranks: Ranks) -> int:
    """Load weights, gradients, optimizer, scaler and every generator; return the number of steps done."""
    own = data["cairn"]
    of_rank = ranks.own_part(own)
    if own["order"] != _order(spec):
        raise TrainingFailure("configuration", f"The checkpoint's data order {own['order']} is not this job's.")
    tensors = names.tensors(training.model)
    if tensors.keys() != data["model"].keys():
        raise TrainingFailure("configuration", "The checkpoint's tensors are not those of this job's model.")
    for name, tensor in tensors.items():
        tensor.copy_(data["model"][name])
    training.load(data, data["gradients"] if ranks.is_main else of_rank["gradients"])
    rng.set_state(of_rank["rng"])
    return int(own["step"])


def _order(spec: RunSpec) -> dict[str, Any]:
    return {"rule": DATA_ORDER_RULE, "seed": spec.config["data"]["seed"]}
