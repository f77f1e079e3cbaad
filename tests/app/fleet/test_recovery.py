"""A dead worker's job is to be had again within two lease periods, whatever the moment at which everything happens."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import redis

from app.fleet import clock, upkeep
from app.fleet import service as fleet
from app.jobs import leases, queueing, transitions
from app.settings import Settings

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """The time of the control plane, moved by the test."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.at_s)


@pytest.fixture
def settings(database_url, tmp_path, redis_url) -> Settings:
    """The settings that a service has by itself, with a real broker."""
    return Settings(data_dir=tmp_path / "data", database_url=database_url, redis_url=redis_url)


@pytest.fixture
def virtual(monkeypatch) -> Clock:
    virtual = Clock()
    for module in (clock, fleet, leases, queueing, transitions, upkeep):
        monkeypatch.setattr(module, "now", virtual.now)
    return virtual


@pytest.fixture
def take(redis_url) -> Callable[[], bool]:
    """Take all messages, and return whether there was one."""

    def take() -> bool:
        with redis.Redis.from_url(redis_url) as connection:
            return bool(connection.delete("cairn.deepmd"))

    return take


def pass_time(app, settings, virtual: Clock, until: Callable[[], bool]) -> None:
    """Let the rounds of the background work go by until something is the case."""
    sessions = app.state.sessions
    while not until():
        virtual.at_s += upkeep.round_s(settings)
        assert virtual.at_s < 10 * settings.lease_s, "it never is"
        upkeep.reap(sessions, settings)
        upkeep.reconcile(sessions, settings)


@pytest.mark.parametrize("late_s", [0.0, 2.5, 4.999])
def test_a_dead_workers_job_is_rung_for_at_once_when_its_lease_is_over(
    app, settings, submit, worker, virtual, take, late_s
):
    """`late_s`: how long before a round it was last heard of."""
    worker.claim(submit()["id"]).heartbeat(1)
    virtual.at_s -= late_s
    take()
    pass_time(app, settings, virtual, take)
    assert settings.lease_s < virtual.at_s + late_s <= settings.lease_s * 7 / 6 + 5


def test_several_losses_in_a_row_do_not_make_it_wait_longer(app, settings, submit, worker, virtual, take):
    job_id = submit()["id"]
    for attempt in range(1, settings.max_attempts):
        worker.claim(job_id, attempt).heartbeat(1)
        take()
        died_s = virtual.at_s
        pass_time(app, settings, virtual, take)
        assert virtual.at_s - died_s <= 1.34 * settings.lease_s


def test_even_if_its_message_is_lost(app, settings, submit, worker, virtual, take):
    worker.claim(submit()["id"]).heartbeat(1)
    take()
    pass_time(app, settings, virtual, take)  # and the message with it
    pass_time(app, settings, virtual, take)
    assert virtual.at_s <= 1.75 * settings.lease_s


@pytest.mark.parametrize("lease_s", [1.0, 5.0, 30.0, 300.0])
def test_the_bound_holds_for_every_lease(lease_s):
    """Lease, a round, a quarter of a lease until it is rung again, another round; after a start of the API as well."""
    settings = Settings(lease_s=lease_s, heartbeat_s=min(3.0, lease_s / 10))
    again_s = min(upkeep.RING_AGAIN.total_seconds(), lease_s / 4)
    assert lease_s + again_s + 2 * upkeep.round_s(settings) < 1.6 * lease_s
    assert lease_s + upkeep.spared_s(settings) + upkeep.round_s(settings) < 1.9 * lease_s
