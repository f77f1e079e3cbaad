"""The three levels of repeatability, set before the first tensor operation of a training."""

import os
from typing import Any

import torch

from app.wire.submission import Determinism


def prepare_environment(level: Determinism) -> None:
    """Set the variables that CUDA libraries read once, when they start."""
    if level == "strict":
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"


def apply(level: Determinism, threads: int | None) -> dict[str, Any]:
    """Set torch up for `level` and return what was set, for the record.

    strict: only deterministic algorithms (an operation without one raises), full-precision matrix products, a fixed
    number of threads. seeded: what does not cost speed. fast: TF32 and cuDNN's autotuner may be used.
    """
    prepare_environment(level)
    count = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(level == "strict")
    torch.backends.cudnn.deterministic = level != "fast"
    torch.backends.cudnn.benchmark = level == "fast"
    torch.backends.cudnn.allow_tf32 = level == "fast"
    torch.backends.cuda.matmul.allow_tf32 = level == "fast"
    return {
        "level": level,
        "threads": count,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }
