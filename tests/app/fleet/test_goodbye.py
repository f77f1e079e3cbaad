"""A worker that stops says so: it is no longer counted on, shown as stopped, and forgotten after a while."""

from datetime import timedelta

from sqlalchemy import update

from app.db import transaction
from app.fleet.service import SILENT_SHOWN, STOPPED_SHOWN
from app.tables import Worker
from app.tables.base import now
from tests.app.simulated import SimulatedWorker, add_worker


def listed(client) -> dict[str, tuple[bool, bool]]:
    return {found["id"]: (found["alive"], found["stopped"]) for found in client.get("/api/v1/workers").json()}


def change(app, **values) -> None:
    with transaction(app.state.sessions) as session:
        session.execute(update(Worker).values(values))


def test_a_worker_that_stopped_is_counted_on_no_more(client, submit, worker: SimulatedWorker) -> None:
    job = submit()["id"]
    assert listed(client) == {worker.id: (True, False)}
    assert client.get(f"/api/v1/jobs/{job}").json()["unserved"] is None
    assert worker.bye().status_code == 204
    assert listed(client) == {worker.id: (False, True)}
    assert "no worker of deepmd is alive" in client.get(f"/api/v1/jobs/{job}").json()["unserved"]


def test_one_that_stopped_is_forgotten_soon_and_one_that_fell_silent_later(
    app, client, worker: SimulatedWorker
) -> None:
    change(app, last_seen_at=now() - STOPPED_SHOWN - timedelta(minutes=1))
    assert listed(client) == {worker.id: (False, False)}
    change(app, stopped_at=now() - STOPPED_SHOWN - timedelta(minutes=1))
    assert listed(client) == {}
    change(app, stopped_at=None, last_seen_at=now() - SILENT_SHOWN - timedelta(minutes=1))
    assert listed(client) == {}


def test_a_job_that_seems_to_run_keeps_its_worker_in_sight(app, client, submit, worker: SimulatedWorker) -> None:
    worker.claim(submit()["id"])
    change(app, stopped_at=now() - timedelta(days=30))
    assert listed(client) == {worker.id: (False, True)}


def test_a_goodbye_of_nobody_harms_nobody(client, worker_client, worker: SimulatedWorker) -> None:
    assert SimulatedWorker(worker_client, "nobody").bye().status_code == 204
    assert worker.bye().status_code == 204
    add_worker(worker_client, "one")
    assert listed(client) == {worker.id: (True, False)}
