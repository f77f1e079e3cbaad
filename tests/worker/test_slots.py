"""Slots: how many trainings run at once, who waits for whom, and GPUs that are only taken when nobody else uses them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from app.wire.worker import Gpu
from worker import gpus, slots
from worker.gpus import Device
from worker.slots import Slot, Slots

GO_ON = threading.Event()
"""Never set: the worker does not stop."""


def device(index: int) -> Device:
    return Device(f"GPU-{index}aaa", Gpu(index=index, name="H", memory_bytes=1))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "RECHECK_S", 0.01)
    monkeypatch.setattr(slots, "ASK_S", 0.05)


@pytest.fixture
def occupied(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Indices of GPUs that other programs compute on: no test machine is sure to have a GPU."""
    taken: set[int] = set()
    monkeypatch.setattr(gpus, "is_free", lambda device: device.gpu.index not in taken)
    return taken


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Job:
    """Somebody who takes a slot in a thread of his own, and holds it until told to let go."""

    def __init__(self, where: Slots, ranks: int = 1, is_wanted: Callable[[], bool] = lambda: True) -> None:
        self.slot: Slot | None = None
        self.ended = threading.Event()
        self._end = threading.Event()
        before = len(where._waiting) + len(where._taken)
        threading.Thread(target=self._run, args=(where, ranks, is_wanted), daemon=True).start()
        until(lambda: self.slot or self.ended.is_set() or len(where._waiting) + len(where._taken) > before)

    def _run(self, where: Slots, ranks: int, is_wanted: Callable[[], bool]) -> None:
        with where.take(GO_ON, ranks, is_wanted) as slot:
            self.slot = slot
            if slot is not None:
                self._end.wait(20)
        self.ended.set()

    def end(self) -> None:
        self._end.set()
        until(self.ended.is_set)

    def waits(self) -> bool:
        time.sleep(0.05)
        return self.slot is None and not self.ended.is_set()


@contextmanager
def taken(where: Slots, ranks: int = 1) -> Iterator[Slot]:
    with where.take(GO_ON, ranks) as slot:
        assert slot is not None
        yield slot


def test_without_gpus_a_slot_changes_nothing() -> None:
    where = Slots([], 2)
    with taken(where) as slot:
        assert slot.environment == {}
        assert where.busy == 1
    assert where.busy == 0


def test_every_trainer_gets_a_gpu_of_its_own(occupied: set[int]) -> None:
    where = Slots([device(0), device(1)], 2)
    with taken(where) as one, taken(where) as two:
        both = {one.environment["CUDA_VISIBLE_DEVICES"], two.environment["CUDA_VISIBLE_DEVICES"]}
    assert both == {"GPU-0aaa", "GPU-1aaa"}


def test_a_gpu_that_others_use_is_passed_over(occupied: set[int]) -> None:
    occupied.add(0)
    with taken(Slots([device(0), device(1)], 2)) as slot:
        assert slot.devices == [device(1)]


def test_a_slot_waits_for_a_gpu_and_gives_up_when_the_worker_stops(occupied: set[int]) -> None:
    occupied.add(0)
    where, stop = Slots([device(0)], 1), threading.Event()
    threading.Timer(0.1, occupied.clear).start()
    with where.take(stop) as slot:
        assert slot is not None
    occupied.add(0)
    threading.Timer(0.1, stop.set).start()
    with where.take(stop) as slot:
        assert slot is None


def test_more_slots_than_gpus_share_them_evenly(occupied: set[int]) -> None:
    where = Slots([device(0), device(1)], 4)
    with taken(where) as a, taken(where) as b, taken(where) as c, taken(where) as d:
        used = sorted(slot.devices[0].gpu.index for slot in (a, b, c, d))
    assert used == [0, 0, 1, 1]
    assert where.largest == 2, "no two ranks share a GPU"


def test_a_job_of_several_ranks_gets_as_many_gpus_at_once(occupied: set[int]) -> None:
    occupied.add(1)
    where = Slots([device(0), device(1), device(2)], 3)
    with taken(where, 2) as slot:
        assert slot.environment == {"CUDA_VISIBLE_DEVICES": "GPU-0aaa,GPU-2aaa"}
        assert where.busy == 2
        where.trim(slot, 1)
        assert (slot.environment, where.busy) == ({"CUDA_VISIBLE_DEVICES": "GPU-0aaa"}, 1)
    assert where.busy == 0


def test_small_jobs_do_not_slip_past_a_large_one_that_waits() -> None:
    where = Slots([], 4)
    small = [Job(where) for _ in range(3)]
    large, late = Job(where, 4), Job(where)
    assert late.waits(), "a slot is free, but it is kept"
    assert where.busy == 4
    for job in small:
        job.end()
    until(lambda: large.slot)
    assert late.waits()
    large.end()
    until(lambda: late.slot)
    late.end()


def test_two_large_jobs_do_not_wait_for_each_other() -> None:
    where = Slots([], 3)
    running = Job(where)
    first, second = Job(where, 2), Job(where, 3)
    until(lambda: first.slot)
    assert second.waits()
    running.end()
    first.end()
    until(lambda: second.slot)
    second.end()


def test_slots_are_kept_no_longer_than_the_job_waits() -> None:
    where = Slots([], 2)
    running, queued = Job(where), [True]
    large, late = Job(where, 2, lambda: queued[0]), Job(where)
    assert late.waits()
    queued[0] = False
    until(large.ended.is_set)
    until(lambda: late.slot)
    for job in (running, late):
        job.end()


def test_one_that_waits_for_gpus_of_other_programs_is_passed(occupied: set[int]) -> None:
    where = Slots([device(0), device(1)], 2)
    occupied.add(1)
    large, small = Job(where, 2), Job(where)
    until(lambda: small.slot)
    assert where.busy == 1, "nothing is kept"
    small.end()
    occupied.clear()
    until(lambda: large.slot)
    large.end()


def test_no_more_messages_are_taken_than_there_is_room_for() -> None:
    """What Celery is told: a worker that hears of a job it has no room for keeps it from one that has."""
    told: list[int] = []
    where = Slots([], 4)
    where.on_change = told.append
    with taken(where, 3):
        assert told[-1] == 2, "itself and one more"
        with taken(where):
            assert told[-1] == 2
        waiting = Job(where, 2)
        assert told[-1] == 2, "nobody beside the one that waits"
    until(lambda: waiting.slot)
    assert told[-1] == 3
    waiting.end()
    assert told[-1] == 4
