"""GPUs: which of them this worker may use."""

import pytest

from app.wire.worker import Gpu
from worker import gpus
from worker.gpus import Device


def device(index: int) -> Device:
    return Device(f"GPU-{index}aaa", Gpu(index=index, name="H", memory_bytes=1))


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, [0, 1, 2]), ("", []), ("2,0", [2, 0]), ("GPU-1", [1]), ("0,9,1", [0]), ("-1", [])],
)
def test_only_visible_gpus_are_used(visible: str | None, expected: list[int]) -> None:
    found = gpus._allowed([device(0), device(1), device(2)], visible)
    assert [device.gpu.index for device in found] == expected
