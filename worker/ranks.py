"""Several processes that train one model together, and what they exchange. One alone exchanges nothing.

Every rank takes batches of its own and changes its own copy of the weights by the mean of all gradients, so the copies
stay equal bit for bit. Sums are taken over one buffer in a fixed order, which no restart changes.
"""

import hashlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, SupportsFloat

import torch

from worker.failures import TrainingFailure, is_out_of_memory

Word = Literal["step", "save", "end"]
"""What the main rank lets all do next. step: the next step. save: hand over what a checkpoint holds of each."""

_WORDS: tuple[Word, ...] = ("step", "save", "end")
_PATIENCE = timedelta(days=7)
"""How long a rank waits for the others, which may compute statistics or write a checkpoint. Who dies is noticed by the
launcher, and not by waiting."""


class PeerLost(Exception):
    """Another rank is gone, so this one cannot go on. Why is said by the other one's end."""


class Ranks:
    """This process among those that train together: the only one, unless it is connected with others."""

    def __init__(self, rank: int = 0, count: int = 1, meeting: Path | None = None) -> None:
        self.rank, self.count = rank, count
        self.backend: str | None = None
        self._device = torch.device("cpu")
        self._host: Any = None
        self._store = _store(meeting, count) if meeting is not None else None

    @property
    def is_main(self) -> bool:
        """Whether this rank reports, validates and writes: one does."""
        return self.rank == 0

    @contextmanager
    def main_first(self, what: str) -> Iterator[None]:
        """Run the block on the main rank, then on the others, which find the artifacts it has kept. Before `connect`."""
        if self._store is not None and not self.is_main:
            self._store.wait([what], _PATIENCE)
        yield
        if self._store is not None and self.is_main:
            self._store.set(what, "done")

    def connect(self) -> None:
        """Join the others: through NCCL where this process computes on a GPU, and through gloo for all that is on the host.

        Not before the engine's library has built its trainer, for some do other things in a process that has joined.
        """
        if self._store is None:
            return
        import torch.distributed as dist

        self._device = torch.device("cuda" if torch.cuda.is_initialized() else "cpu")
        self.backend = "nccl" if self._device.type == "cuda" else "gloo"
        with _together():
            dist.init_process_group(
                self.backend, store=self._store, rank=self.rank, world_size=self.count, timeout=_PATIENCE
            )
            self._host = (
                dist.new_group(backend="gloo", timeout=_PATIENCE) if self.backend == "nccl" else dist.group.WORLD
            )

    def own_part(self, saved: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a checkpoint holds of this rank: `saved` itself of the main one, its `ranks` of the others.

        Raises:
            TrainingFailure: It was written by another number of ranks.
        """
        found = saved.get("ranks", {"count": 1, "others": []})
        if found["count"] != self.count:
            message = f"The checkpoint was written by {found['count']} ranks, and this job has {self.count}."
            hint = "A training goes on with as many. For another number, start from its weights (start mode init)."
            raise TrainingFailure("configuration", message, hint=hint)
        part: Mapping[str, Any] = saved if self.is_main else found["others"][self.rank - 1]
        return part

    def decide(self, word: Word | None = None) -> Word:
        """Return what the main rank lets all do next: what it says here."""
        if self.count == 1:
            assert word is not None, "the main rank decides"
            return word
        import torch.distributed as dist

        said = torch.tensor([_WORDS.index(word) if word is not None else 0])
        with _together():
            dist.broadcast(said, 0, group=self._host)
        return _WORDS[int(said)]

    def gather(self, value: Any) -> list[Any]:
        """Return on the main rank the values of all, by rank; on the others nothing. Tensors must be on the host."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] | None = [None] * self.count if self.is_main else None
        with _together():
            dist.gather_object(value, found, 0, group=self._host)
        return found or []

    def mean_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Replace every gradient by its mean over the ranks, where it counts as zero that it is missing.

        What has none on any rank keeps none, as in a single process.
        """
        if self.count == 1:
            return
        used = self._largest([int(parameter.grad is not None) for parameter in parameters])
        by_dtype: dict[torch.dtype, list[torch.Tensor]] = {}
        for parameter, is_used in zip(parameters, used, strict=True):
            if is_used:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                by_dtype.setdefault(parameter.grad.dtype, []).append(parameter.grad)
        for gradients in by_dtype.values():
            self._average(gradients)

    def mean(self, metrics: Mapping[str, SupportsFloat]) -> Mapping[str, SupportsFloat]:
        """Return the mean of each value over the ranks that measured it."""
        if self.count == 1:
            return metrics
        names = self._all_names(metrics)
        values = [metrics.get(name, 0.0) for name in names] + [float(name in metrics) for name in names]
        sums = torch.stack([self._placed(value) for value in values])
        self._sum(sums)
        return dict(zip(names, (sums[: len(names)] / sums[len(names) :]).unbind(), strict=True))

    def _placed(self, value: SupportsFloat) -> torch.Tensor:
        """Return a value where sums are taken. A number is written there by the device itself, which nobody waits for."""
        if isinstance(value, torch.Tensor):
            return value.detach().to(self._device, torch.float64)
        return torch.full((), float(value), dtype=torch.float64, device=self._device)

    def _average(self, gradients: list[torch.Tensor]) -> None:
        whole = torch.cat([gradient.detach().reshape(-1) for gradient in gradients])
        self._sum(whole)
        whole.div_(self.count)
        parts = whole.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _sum(self, tensor: torch.Tensor) -> None:
        import torch.distributed as dist

        with _together():
            dist.all_reduce(tensor)

    def _largest(self, numbers: list[int]) -> list[int]:
        """Return the largest number at each place among the ranks; on the host, so that no GPU is waited for."""
        import torch.distributed as dist

        found = torch.tensor(numbers)
        with _together():
            dist.all_reduce(found, dist.ReduceOp.MAX, group=self._host)
        return found.tolist()

    def _all_names(self, metrics: Mapping[str, Any]) -> list[str]:
        """Return the names that any rank measured, in one order; usually all have the same."""
        own = sorted(metrics)
        digest = int.from_bytes(hashlib.sha256("\n".join(own).encode()).digest()[:7])
        largest, smallest = self._largest([digest, -digest])
        if largest == -smallest:
            return own
        import torch.distributed as dist

        found: list[list[str]] = [[]] * self.count
        with _together():
            dist.all_gather_object(found, own, group=self._host)
        return sorted({name for names in found for name in names})


ALONE = Ranks()
"""A process that trains by itself."""


def prepare_environment() -> None:
    """Let the ranks of one machine meet over its loopback interface. For a process that has not connected yet."""
    if any(name == "lo" for _, name in socket.if_nameindex()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    # One order of sums: the default chooses among several, also by what the hardware can do at the moment.
    os.environ.setdefault("NCCL_ALGO", "Ring")


def _store(meeting: Path, count: int) -> Any:
    import torch.distributed as dist

    return dist.FileStore(str(meeting), count)  # type: ignore[attr-defined]  # documented, but not declared


@contextmanager
def _together() -> Iterator[None]:
    """Turn what a broken connection raises into PeerLost."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise PeerLost(str(error)) from error
