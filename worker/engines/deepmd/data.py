"""The data of one task: systems opened by DeePMD-kit, frames cached, batches by number."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from deepmd.pt.utils.dataloader import DpLoaderSet, collate_batch, get_sampler_from_params
from deepmd.pt.utils.env import DEVICE

from app.engines.deepmd.seeds import STATISTICS
from worker.engines.deepmd.sampler import FrameOrder
from worker.failures import TrainingFailure
from worker.order import permutation

Batch = dict[str, Any]


class FrameCache:
    """Decoded frames, kept up to a number of bytes. DeePMD opens every file of a frame each time it is read."""

    def __init__(self, limit_bytes: int) -> None:
        self._free = limit_bytes
        self._frames: dict[tuple[int, int], Batch] = {}

    def get(self, key: tuple[int, int], read: Callable[[], Batch]) -> Batch:
        """Return the frame under `key`, reading it when it is not kept."""
        frame = self._frames.get(key)
        if frame is None:
            frame = read()
            size = sum(value.nbytes for value in frame.values() if isinstance(value, np.ndarray))
            if size <= self._free:
                self._free -= size
                self._frames[key] = frame
        return frame


class TaskData:
    """One set of systems (training or validation) and its batches as a pure function of their number."""

    def __init__(
        self, section: dict[str, Any], type_map: list[str], *, cache_bytes: int, order: tuple[int | str, ...]
    ) -> None:
        self.section = section
        self.loader = DpLoaderSet(section["systems"], section["batch_size"], type_map, seed=None)
        self._cache = FrameCache(cache_bytes)
        self._order_names = order
        self._order: FrameOrder | None = None
        self._frames: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        # DeePMD draws the frames of its statistics from here.
        self.loader.dataloaders = [_FixedBatches(self, index) for index in range(len(self.loader.systems))]

    def batch(self, index: int) -> Batch:
        """Return batch `index`, on the CPU, as DeePMD's own loader would collate it."""
        order = self._order or self._make_order()
        system, places = order.batch(index)
        batch = self.collate(system, self._frames[system][places].tolist())
        batch["sid"] = system
        return batch

    def collate(self, system: int, frames: list[int]) -> Batch:
        """Return some frames of a system as one batch."""
        dataset = self.loader.systems[system]
        read = [self._cache.get((system, frame), lambda frame=frame: dataset[frame]) for frame in frames]  # type: ignore[misc]
        with torch.device("cpu"):
            batch: Batch = collate_batch(read)
        if DEVICE.type == "cuda":
            batch = {key: _pin(value) for key, value in batch.items()}
        return batch

    def describe(self, index: int) -> str:
        """Say what batch `index` is: for messages."""
        order = self._order or self._make_order()
        system, places = order.batch(index)
        path = self.loader.systems[system].system
        return f"{len(places)} frames × {self.loader.systems[system]._natoms} atoms of {path}"

    def _make_order(self) -> FrameOrder:
        """Fix the order, once DeePMD has said which labels and limits it needs."""
        weights = get_sampler_from_params(self.loader, self.section).weights.tolist()
        closest = float(self.section.get("min_pair_dist") or 0.0)
        self._frames = [self._usable(index, closest) for index in range(len(self.loader.systems))]
        weights = [weight if frames.size else 0.0 for weight, frames in zip(weights, self._frames, strict=True)]
        if not sum(weights) > 0:
            raise TrainingFailure("data", "No frame can be drawn.", hint="Look at sys_probs, auto_prob, min_pair_dist.")
        counts = [max(1, frames.size) for frames in self._frames]
        sizes = [int(size) for size in self.loader.batch_sizes]
        self._order = FrameOrder(counts, sizes, weights, *self._order_names)
        return self._order

    def _usable(self, system: int, closest: float) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the frames of a system without a pair of atoms nearer than `closest` Å (0: all of them)."""
        dataset = self.loader.systems[system]
        frames = np.arange(len(dataset), dtype=np.int64)
        if closest <= 0.0:
            return frames
        distances = np.array([float(dataset[int(frame)]["min_pair_dist"][0]) for frame in frames])
        return frames[distances >= closest]


class _FixedBatches:
    """The batches of one system in the order in which statistics look at them: the same for every job on the data."""

    def __init__(self, data: TaskData, system: int) -> None:
        self._data, self._system = data, system
        self._frames = len(data.loader.systems[system])
        self._size = int(data.loader.batch_sizes[system])

    def __len__(self) -> int:
        return -(-self._frames // self._size)

    def __iter__(self) -> Iterator[Batch]:
        order = permutation(self._frames, STATISTICS, "statistics", self._system).tolist()
        for start in range(0, self._frames, self._size):
            yield self._data.collate(self._system, order[start : start + self._size])


def _pin(value: Any) -> Any:
    return value.pin_memory() if isinstance(value, torch.Tensor) else value
