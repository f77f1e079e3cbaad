"""A clock that is set while jobs run takes no job from the living, and keeps none with the dead."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from app.db import reading, transaction
from app.fleet import clock, upkeep
from app.tables import Attempt, Job, Worker, base
from app.tables.base import now

HOUR = timedelta(hours=1)
FAST = {"reconcile_s": 0.05}


@pytest.fixture
def set_clock(monkeypatch):
    """Set the clock of this process: by so much it is ahead."""

    def set_by(ahead: timedelta) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz=UTC):
                return datetime.now(tz) + ahead

        monkeypatch.setattr(base, "datetime", Clock)

    return set_by


@pytest.fixture
def keep_up(app, client, settings):
    """Let the background thread run."""
    threads = []

    def start(*, lease_s: float, fresh: bool = False):
        threads.append(upkeep.Upkeep(app.state.sessions, settings.model_copy(update=FAST | {"lease_s": lease_s})))
        if not fresh:
            threads[0]._reap_from = time.monotonic()  # as if it had run for long

    yield start
    for thread in threads:
        thread.close()


def wait_for(client, job_id, state):
    until = time.monotonic() + 60
    while client.get(f"/api/v1/jobs/{job_id}").json()["state"] != state:
        assert time.monotonic() < until, f"waited in vain for {state}"
        time.sleep(0.05)


def test_a_clock_that_leaps_forward_takes_no_job_from_the_living(client, submit, worker, keep_up, set_clock):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)
    keep_up(lease_s=10.0)
    set_clock(HOUR)
    time.sleep(0.4)  # eight rounds
    assert attempt.heartbeat().status_code == 200
    assert client.get(f"/api/v1/jobs/{job_id}").json()["state"] == "running"


def test_a_clock_that_is_set_back_does_not_keep_a_job_with_a_dead_worker(client, submit, worker, keep_up, set_clock):
    job_id = submit()["id"]
    worker.claim(job_id)
    keep_up(lease_s=0.5)
    set_clock(-HOUR)
    wait_for(client, job_id, "queued")


def test_a_clock_set_back_while_the_api_was_away_is_noticed_at_its_start(client, submit, worker, keep_up, set_clock):
    job_id = submit()["id"]
    worker.claim(job_id)
    set_clock(-HOUR)
    keep_up(lease_s=0.5, fresh=True)
    wait_for(client, job_id, "queued")


def test_what_is_dated_ahead_is_pulled_back_and_nothing_else(app, client, submit, worker, settings):
    running, paused, queued = (submit()["id"] for _ in range(3))
    worker.claim(running)
    soon = now() + timedelta(seconds=5)
    with transaction(app.state.sessions) as session:
        session.execute(update(Attempt).values(lease_expires_at=now() + HOUR))
        session.execute(update(Worker).values(last_seen_at=now() + HOUR))
        session.execute(update(Job).where(Job.id == queued).values(rung_at=now() + HOUR, not_before=now() + HOUR))
        session.execute(update(Job).where(Job.id == paused).values(not_before=soon))
    assert clock.pull_back(app.state.sessions, settings) == 4
    assert clock.pull_back(app.state.sessions, settings) == 0
    with reading(app.state.sessions) as session:
        lease = timedelta(seconds=settings.lease_s)
        assert session.scalars(select(Attempt.lease_expires_at)).one() <= now() + lease
        assert session.scalars(select(Worker.last_seen_at)).one() <= now()
        job = session.get_one(Job, queued)
        assert job.rung_at <= now()
        assert job.not_before <= now() + timedelta(minutes=5)
        assert session.get_one(Job, paused).not_before == soon
