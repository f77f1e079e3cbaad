"""What a training ran on, as far as it can change its numbers or its speed."""

import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from app.engines import registry

_LIBRARIES = (
    "cairn",
    "torch",
    *(engine.library for engine in registry.ENGINES),
    "tokenizers",
    "numpy",
    "scipy",
    "pyarrow",
    "nvidia-cublas-cu12",
    "nvidia-cudnn-cu12",
)
_VARIABLES = (
    "OMP_",
    "MKL_",
    "KMP_",
    "OPENBLAS_",
    "CUDA_",
    "CUBLAS_",
    "CUDNN_",
    "NCCL_",
    "NVIDIA_",
    "TORCH_",
    "PYTORCH_",
    "DP_",
)
_EXACT_VARIABLES = frozenset({"NUM_WORKERS", "DEVICE", "PYTHONHASHSEED", "LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_CONF"})


def record(determinism: dict[str, Any]) -> dict[str, Any]:
    """Return hardware, library versions, threads, relevant variables and the code version, ready for JSON."""
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "cpu": _cpu(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": _gpus(),
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name))},
        "torch": _torch(),
        "determinism": determinism,
        "variables": {name: value for name, value in sorted(os.environ.items()) if _is_relevant(name)},
        "code": _code_version(),
    }


def _cpu() -> dict[str, Any]:
    model, flags = platform.processor(), ""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
        if key.strip() == "flags":
            flags = value
            break
    wide = [name for name in ("avx2", "fma", "avx512f", "amx_tile") if name in flags.split()]
    return {"model": model, "usable": len(os.sched_getaffinity(0)), "present": os.cpu_count(), "vector": wide}


def _gpus() -> list[dict[str, Any]]:
    import torch

    if not torch.cuda.is_initialized():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(
            {
                "name": properties.name,
                "memory_bytes": properties.total_memory,
                "capability": f"{properties.major}.{properties.minor}",
                "uuid": str(getattr(properties, "uuid", "")),
                "driver": _driver(),
            }
        )
    return found


def _driver() -> str | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
        pynvml.nvmlShutdown()
    except Exception:  # noqa: BLE001 - whatever NVML lacks, the record goes on without it
        return None
    return version.decode() if isinstance(version, bytes) else str(version)


def _torch() -> dict[str, Any]:
    import torch

    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_initialized() else None,
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "mkl": torch.backends.mkl.is_available(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _code_version() -> str | None:
    """Return the git commit of the code when it runs from a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)  # noqa: S603 - fixed words
    except OSError:
        return None
    return done.stdout.strip() or None


def _is_relevant(name: str) -> bool:
    secret = any(word in name for word in ("TOKEN", "KEY", "SECRET", "PASSWORD"))
    return not secret and (name.startswith(_VARIABLES) or name in _EXACT_VARIABLES)
