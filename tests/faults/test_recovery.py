"""How long a dead worker's job really waits, by the clock on the wall. `tests/app/fleet/test_recovery.py` has the worst case."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.conftest import Redis, WorkerProcess, World, kill, running_service, wait_for

pytestmark = pytest.mark.long

LEASE_S = 5.0
TIMES = 4
"""Losses in a row of one job, without a newer checkpoint: one less than are its end."""


@pytest.fixture
def short_leases(tmp_path: Path, redis: Redis, sqlite_template: Path) -> Iterator[World]:
    with running_service(tmp_path, redis, sqlite_template, lease_s=LEASE_S) as world:
        world.work_dir = tmp_path / "work"
        yield world
        world.clean_up()


def test_a_dead_workers_job_runs_again_within_two_lease_periods(
    short_leases: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world, holder = short_leases, short_leases.start_worker()
    job = world.submit(steps=10_000, every=10_000)
    took = []
    for number in range(1, TIMES + 1):
        wait_for(holder.trainers, "a training")
        heir = start_known_worker(world)
        died = datetime.now(UTC)
        kill(holder.process)
        took.append((wait_for_execution(world, job, number + 1) - died).total_seconds() / LEASE_S)
        holder = heir
    with capsys.disabled():
        figures = ", ".join(f"{one:.2f}" for one in took)
        print(f"\nlease periods until a dead worker's job ran again: {figures}")  # noqa: T201 - the figure is asked for
    assert max(took) < 2


def start_known_worker(world: World) -> WorkerProcess:
    worker = world.start_worker()
    wait_for(lambda: "known to the API" in worker.log.read_text(), "a worker that could take over")
    return worker


def wait_for_execution(world: World, job: int, number: int) -> datetime:
    wait_for(lambda: len(world.job(job)["attempts"]) == number, "the next execution")
    return datetime.fromisoformat(world.job(job)["attempts"][-1]["started_at"])
