"""Every random number generator that a training can draw from: seeding, saving, putting back."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

State = dict[str, Any]
"""Tensors, lists and numbers only, so that `torch.load(weights_only=True)` reads it."""


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators, those of every CUDA device included."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def get_state() -> State:
    """Return the state of all global generators."""
    state: State = {
        "python": _python_state(),
        "numpy": pack_numpy(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state(),
        "cuda": [],
    }
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_state(state: State) -> None:
    """Put back what `get_state` returned. On another number of CUDA devices their generators stay as they are."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(int(word) for word in internal), gauss))
    np.random.set_state(unpack_numpy(state["numpy"]))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


@contextmanager
def preserved() -> Iterator[None]:
    """Leave all global generators as they were, whatever the block draws."""
    state = get_state()
    try:
        yield
    finally:
        set_state(state)


def digests(state: State) -> dict[str, str]:
    """Return the digest of each generator of a state: python, numpy, torch, and cuda:N of every CUDA device."""
    found = {name: digest(state[name]) for name in ("python", "numpy", "torch")}
    return found | {f"cuda:{index}": digest(one) for index, one in enumerate(state["cuda"])}


def digest(value: Any) -> str:
    """Return SHA-256 over a generator's state: tensors by their bytes, everything else as Python writes it."""
    found = hashlib.sha256()
    _feed(found, value)
    return found.hexdigest()


def _feed(found: "hashlib._Hash", value: Any) -> None:
    if isinstance(value, torch.Tensor):
        found.update(value.cpu().contiguous().numpy().tobytes())
    elif isinstance(value, dict):
        for key in sorted(value):
            found.update(f"{key}:".encode())
            _feed(found, value[key])
    elif isinstance(value, (list, tuple)):
        for item in value:
            _feed(found, item)
    else:
        found.update(f"{value!r};".encode())


def pack_numpy(state: dict[str, Any]) -> State:
    """Return a Mersenne-Twister state of NumPy as tensors and numbers."""
    key = torch.from_numpy(state["state"]["key"].astype(np.int64))
    return {
        "key": key,
        "pos": int(state["state"]["pos"]),
        "has_gauss": int(state["has_gauss"]),
        "gauss": float(state["gauss"]),
    }


def unpack_numpy(packed: State) -> dict[str, Any]:
    """Return what `pack_numpy` was given."""
    key = packed["key"].cpu().numpy().astype(np.uint32)
    return {
        "bit_generator": "MT19937",
        "state": {"key": key, "pos": packed["pos"]},
        "has_gauss": packed["has_gauss"],
        "gauss": packed["gauss"],
    }


def _python_state() -> tuple[int, torch.Tensor, float | None]:
    version, internal, gauss = random.getstate()
    return version, torch.tensor(internal, dtype=torch.int64), gauss
