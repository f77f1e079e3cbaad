"""The GPUs of this worker: which there are, who uses them, how busy they are."""

import logging
import os
from dataclasses import dataclass
from typing import Any

from app.wire.worker import Gpu

log = logging.getLogger(__name__)

FOREIGN_BYTES = 1 << 30
"""A GPU with more memory in use than this, none of it ours, is somebody else's."""


@dataclass(frozen=True)
class Device:
    """One GPU that this worker may use, by its UUID: indices differ between CUDA and NVML."""

    uuid: str
    gpu: Gpu


def find_devices() -> list[Device]:
    """Return the GPUs this worker may use: those of NVML, or the ones CUDA_VISIBLE_DEVICES leaves of them."""
    try:
        import pynvml

        pynvml.nvmlInit()
        found = [_describe(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except (ImportError, OSError) as error:
        log.debug("no NVML: %s", error)
        return []
    except pynvml.NVMLError as error:
        log.debug("no GPU: %s", error)
        return []
    return _allowed(found, os.environ.get("CUDA_VISIBLE_DEVICES"))


def _allowed(found: list[Device], visible: str | None) -> list[Device]:
    if visible is None:
        return found
    names = [name.strip() for name in visible.split(",") if name.strip()]
    chosen = []
    for name in names:
        match = [d for d in found if d.uuid.startswith(name) or (name.isdigit() and d.gpu.index == int(name))]
        if not match:
            break  # as CUDA does: what follows the first unknown name is not visible
        chosen += match[:1]
    return chosen


def is_free(device: Device) -> bool:
    """Return whether nobody computes on a GPU that no trainer of ours uses."""
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(device.uuid)
        if pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
            return False
        # Other containers' processes are not listed, but their memory is seen.
        return bool(pynvml.nvmlDeviceGetMemoryInfo(handle).used < FOREIGN_BYTES)
    except pynvml.NVMLError as error:
        log.warning("GPU %s does not answer: %s", device.gpu.index, error)
        return False


def _describe(index: int) -> Device:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    gpu = Gpu(
        index=index,
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        memory_bytes=memory,
        driver=_text(pynvml.nvmlSystemGetDriverVersion()),
    )
    return Device(_text(pynvml.nvmlDeviceGetUUID(handle)), gpu)


def usage(device: Device) -> dict[str, Any]:
    """Return utilisation and memory of a GPU, for the workers page."""
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(device.uuid)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        utilisation = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
    except pynvml.NVMLError as error:
        return device.gpu.model_dump() | {"error": str(error)}
    return device.gpu.model_dump() | {"utilisation": utilisation, "memory_used_bytes": memory.used}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
