"""Slots and GPUs: how many trainings run here at once, and which accelerator each may see."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from app.wire.worker import Gpu

log = logging.getLogger(__name__)

FOREIGN_BYTES = 1 << 30
"""A GPU with more memory in use than this, none of it ours, is somebody else's."""
RECHECK_S = 2.0


@dataclass(frozen=True)
class Device:
    """One GPU that this worker may use, by its UUID: indices differ between CUDA and NVML."""

    uuid: str
    gpu: Gpu


@dataclass(frozen=True)
class Slot:
    """The right to run one trainer."""

    device: Device | None
    place: int | None

    @property
    def environment(self) -> dict[str, str]:
        """Return what a trainer in this slot needs in its environment, before CUDA starts."""
        return {"CUDA_VISIBLE_DEVICES": self.device.uuid} if self.device else {}


class Slots:
    """Hands out slots; a GPU only when nobody else computes on it."""

    def __init__(self, devices: list[Device], count: int) -> None:
        self.count = count
        self.busy = 0
        self._devices = devices
        self._trainers = [0] * len(devices)
        self._per_device = -(-count // len(devices)) if devices else 0
        self._lock = threading.Lock()

    @contextmanager
    def take(self, stop: threading.Event) -> Iterator[Slot | None]:
        """Yield a slot, waiting while all GPUs are used by others; None when `stop` is set."""
        slot = self._wait(stop)
        try:
            yield slot
        finally:
            if slot is not None:
                self._give_back(slot)

    def _wait(self, stop: threading.Event) -> Slot | None:
        said = False
        while not stop.is_set():
            slot = self._try()
            if slot is not None:
                return slot
            if not said:
                log.warning("no GPU is free: other programs compute on them; waiting")
                said = True
            stop.wait(RECHECK_S)
        return None

    def _try(self) -> Slot | None:
        with self._lock:
            if not self._devices:
                self.busy += 1
                return Slot(None, None)
            for place in sorted(range(len(self._devices)), key=lambda place: self._trainers[place]):
                trainers = self._trainers[place]
                if trainers < self._per_device and (trainers or is_free(self._devices[place])):
                    self._trainers[place] += 1
                    self.busy += 1
                    return Slot(self._devices[place], place)
        return None

    def _give_back(self, slot: Slot) -> None:
        with self._lock:
            self.busy -= 1
            if slot.place is not None:
                self._trainers[slot.place] -= 1

    def usage(self) -> list[dict[str, Any]]:
        """Return utilisation and memory of every GPU, for the workers page."""
        return [_usage(device) for device in self._devices]


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


def _usage(device: Device) -> dict[str, Any]:
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
