"""Slots, and GPUs that are only taken when nobody else uses them."""

import threading

import pytest

from app.wire.worker import Gpu
from worker import gpus
from worker.gpus import Device, Slots


def device(index: int) -> Device:
    return Device(f"GPU-{index}aaa", Gpu(index=index, name="H", memory_bytes=1))


@pytest.fixture
def occupied(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Indices of GPUs that other programs compute on: no test machine is sure to have a GPU."""
    taken: set[int] = set()
    monkeypatch.setattr(gpus, "is_free", lambda device: device.gpu.index not in taken)
    monkeypatch.setattr(gpus, "RECHECK_S", 0.01)
    return taken


def test_without_gpus_a_slot_changes_nothing() -> None:
    slots = Slots([], 2)
    with slots.take(threading.Event()) as slot:
        assert slot is not None
        assert slot.environment == {}
        assert slots.busy == 1
    assert slots.busy == 0


def test_every_trainer_gets_a_gpu_of_its_own(occupied: set[int]) -> None:
    slots = Slots([device(0), device(1)], 2)
    stop = threading.Event()
    with slots.take(stop) as one, slots.take(stop) as two:
        assert one is not None
        assert two is not None
        assert {one.environment["CUDA_VISIBLE_DEVICES"], two.environment["CUDA_VISIBLE_DEVICES"]} == {
            "GPU-0aaa",
            "GPU-1aaa",
        }


def test_a_gpu_that_others_use_is_passed_over(occupied: set[int]) -> None:
    occupied.add(0)
    with Slots([device(0), device(1)], 2).take(threading.Event()) as slot:
        assert slot is not None
        assert slot.device == device(1)


def test_a_slot_waits_for_a_gpu_and_gives_up_when_the_worker_stops(occupied: set[int]) -> None:
    occupied.add(0)
    slots, stop = Slots([device(0)], 1), threading.Event()
    threading.Timer(0.1, occupied.clear).start()
    with slots.take(stop) as slot:
        assert slot is not None
    occupied.add(0)
    threading.Timer(0.1, stop.set).start()
    with slots.take(stop) as slot:
        assert slot is None


def test_more_slots_than_gpus_share_them_evenly(occupied: set[int]) -> None:
    slots, stop = Slots([device(0), device(1)], 4), threading.Event()
    with slots.take(stop) as a, slots.take(stop) as b, slots.take(stop) as c, slots.take(stop) as d:
        places = sorted(slot.place for slot in (a, b, c, d) if slot is not None and slot.place is not None)
    assert places == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, [0, 1, 2]), ("", []), ("2,0", [2, 0]), ("GPU-1", [1]), ("0,9,1", [0]), ("-1", [])],
)
def test_only_visible_gpus_are_used(visible: str | None, expected: list[int]) -> None:
    found = gpus._allowed([device(0), device(1), device(2)], visible)
    assert [device.gpu.index for device in found] == expected
