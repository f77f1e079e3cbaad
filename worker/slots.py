"""Slots: how many trainings run here at once, and which GPUs each may see."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from worker import gpus
from worker.gpus import Device

log = logging.getLogger(__name__)

RECHECK_S = 0.5
"""Between two looks whether there is room."""
ASK_S = 5.0
"""Between two questions whether the job that slots are kept for still waits."""


@dataclass(eq=False)
class Slot:
    """The right to run one trainer of `ranks` processes."""

    ranks: int = 1
    devices: list[Device] = field(default_factory=list)
    """One for each rank; none on a worker without GPUs."""

    @property
    def environment(self) -> dict[str, str]:
        """Return what a trainer in this slot needs in its environment, before CUDA starts."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(device.uuid for device in self.devices)} if self.devices else {}


class Slots:
    """Hands out slots, a job's all at once; a GPU only when nobody else computes on it.

    Who waits is served in turn: what becomes free is kept for the first until it has enough, so that neither two large jobs
    hold half of it each, nor small ones slip past a large one forever. They may pass one that waits for GPUs which other
    programs use: nobody knows until when.
    """

    def __init__(self, devices: list[Device], count: int) -> None:
        self.count = count
        self.largest = min(count, len(devices)) if devices else count
        """Ranks of the largest job that fits: each takes a slot and, where there are GPUs, one of its own."""
        self.on_change: Callable[[int], None] = lambda _: None
        """Told how many jobs may run and wait here at once, whenever that changes."""
        self._devices = devices
        self._per_device = -(-count // len(devices)) if devices else 0
        self._taken: list[Slot] = []
        self._waiting: list[Slot] = []
        """By turn; their devices are still to be chosen."""
        self._lock = threading.Lock()

    @property
    def busy(self) -> int:
        """Return how many slots nobody else can have now; all of them while free ones are kept for one who waits."""
        with self._lock:
            return self.count if self._are_kept() else self._in_use()

    @contextmanager
    def take(
        self, stop: threading.Event, ranks: int = 1, is_wanted: Callable[[], bool] = lambda: True
    ) -> Iterator[Slot | None]:
        """Yield a slot for a job of so many ranks, waiting until there is room; None when `stop` is set.

        Also None when `is_wanted` says no, which is asked every few seconds while slots are kept for several ranks.
        """
        slot = Slot(ranks)
        with self._changing():
            self._waiting.append(slot)
        try:
            yield slot if self._wait(slot, stop, is_wanted) else None
        finally:
            with self._changing():
                (self._taken if slot in self._taken else self._waiting).remove(slot)

    def trim(self, slot: Slot, ranks: int) -> None:
        """Give back what a slot holds beyond so many ranks."""
        with self._changing():
            slot.ranks, slot.devices = ranks, slot.devices[:ranks]

    def usage(self) -> list[dict[str, Any]]:
        """Return utilisation and memory of every GPU, for the workers page."""
        return [gpus.usage(device) for device in self._devices]

    def _wait(self, slot: Slot, stop: threading.Event, is_wanted: Callable[[], bool]) -> bool:
        asked = time.monotonic()
        said = False
        while not stop.is_set():
            if self._try(slot):
                return True
            if slot.ranks > 1 and time.monotonic() - asked > ASK_S:
                if not is_wanted():
                    return False
                asked = time.monotonic()
            if not said:
                log.warning(
                    "waiting for room for %s: others compute here",
                    "a job" if slot.ranks == 1 else f"{slot.ranks} ranks",
                )
                said = True
            stop.wait(RECHECK_S)
        return False

    def _try(self, slot: Slot) -> bool:
        """Take what a slot needs, if it is there and kept for nobody who came before."""
        with self._changing():
            before = self._waiting[: self._waiting.index(slot)]
            if any(self._will_fit(other) for other in before) or not self._fits(slot):
                return False
            slot.devices = self._free()[: slot.ranks]
            self._waiting.remove(slot)
            self._taken.append(slot)
            return True

    def _fits(self, slot: Slot) -> bool:
        enough = self._in_use() + slot.ranks <= self.count
        return enough and (not self._devices or len(self._free()) >= slot.ranks)

    def _will_fit(self, slot: Slot) -> bool:
        """Return whether there is room once our own trainers have ended, whatever other programs do."""
        ours = [device for device in self._devices if self._trainers(device) or gpus.is_free(device)]
        return slot.ranks <= self.largest and (not self._devices or len(ours) >= slot.ranks)

    def _are_kept(self) -> bool:
        """Return whether what is free is kept for one who waits."""
        return any(self._will_fit(slot) for slot in self._waiting)

    def _free(self) -> list[Device]:
        """Return the GPUs that have room for another trainer, those with the fewest first."""
        ranked = sorted(self._devices, key=self._trainers)
        return [
            device
            for device in ranked
            if self._trainers(device) < self._per_device and (self._trainers(device) or gpus.is_free(device))
        ]

    def _trainers(self, device: Device) -> int:
        return sum(device in slot.devices for slot in self._taken)

    def _in_use(self) -> int:
        return sum(slot.ranks for slot in self._taken)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:
            yield
            room = 0 if self._are_kept() else self.count - self._in_use()
            self.on_change(len(self._taken) + len(self._waiting) + room)
