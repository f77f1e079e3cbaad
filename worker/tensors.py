"""What is said of tensors in files of weights, whatever the engine: digests, dtypes, numbers that are not finite."""

import hashlib
from collections.abc import Iterable, Mapping

import torch

from worker import checkpoint
from worker.engines.base import RefusedFile

_SHOWN = 5


def digest(tensor: torch.Tensor) -> str:
    """Return SHA-256 over dtype, shape and bytes."""
    found = hashlib.sha256(f"{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
    found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def dtype(tensor: torch.Tensor) -> str:
    """Return a dtype as facts name it: `float16`."""
    return str(tensor.dtype).removeprefix("torch.")


def check_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise RefusedFile when a number is NaN or infinite."""
    if checkpoint.first_non_finite(tensors) is None:
        return
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    raise RefusedFile(
        f"Numbers that are not finite (NaN or infinite) stand in {listed(bad)}.",
        "The training that wrote the file had diverged: use an earlier checkpoint of it.",
    )


def listed(names: Iterable[str]) -> str:
    """Return names as a message shows them: the first few, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def first_line(error: Exception) -> str:
    """Return an error of a library's as a message quotes it."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
