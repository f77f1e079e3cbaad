"""One job and one worker that nothing ends: what goes wrong is a trainer's doing, or somebody's wish."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.conftest import WorkerProcess, World, kill, wait_for

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture(scope="module")
def steady(service: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker for all tests of this file: to start it takes longer than most of them."""
    service.work_dir = tmp_path_factory.mktemp("work")
    worker = service.start_worker(CAIRN_FLUSH_S="1")
    service.workers.remove(worker)
    yield worker
    service.workers.append(worker)
    service.clean_up()


@pytest.fixture
def worker(world: World, steady: WorkerProcess) -> WorkerProcess:
    world.work_dir = steady.log.parent
    return steady


def test_from_submission_to_completion(world: World, worker: WorkerProcess) -> None:
    job = world.submit(steps=60)
    done = world.wait_state(job, "completed")
    assert done["progress"]["step"] == 60
    assert world.attempts(job) == [("completed", 0)]
    world.assert_as_if_undisturbed(job, 60)
    log = world.http.get(f"/api/v1/jobs/{job}/logs").text
    assert "started" in log
    assert "ended completed at 60" in log
    assert done["attempts"][0]["environment"]["pid"] > 0
    assert list(world.work_dir.glob("*-*")) == []


def test_a_killed_trainer(world: World, worker: WorkerProcess) -> None:
    job, _ = world.hold()
    kill(worker.trainers()[0])
    world.wait_state(job, "completed")
    assert world.attempts(job) == [("interrupted", 0), ("completed", 40)]
    cause = world.job(job)["attempts"][0]["cause"]
    assert cause["failure"] == "killed"
    assert cause["message"] == "The trainer was killed by SIGKILL after step 45."
    world.assert_as_if_undisturbed(job, 100)


def test_a_server_that_forgot_its_workers(world: World, worker: WorkerProcess) -> None:
    wait_for(lambda: "known to the API" in worker.log.read_text(), "the first hello")
    world.sql("DELETE FROM workers")
    job = world.submit(steps=20)
    world.wait_state(job, "completed")
    # Twice when the thread that says that it is present and the one that claims notice at the same moment.
    assert worker.log.read_text().count("known to the API") in {2, 3}


def test_a_drained_worker_takes_no_work_until_it_is_wanted_again(world: World, worker: WorkerProcess) -> None:
    wait_for(lambda: "known to the API" in worker.log.read_text(), "the first hello")
    world.sql("UPDATE workers SET drain = 1")
    wait_for(lambda: "draining" in worker.log.read_text(), "the order to drain")
    time.sleep(3)
    job = world.submit(steps=20)
    time.sleep(1.0)
    assert world.job(job)["state"] == "queued"
    world.sql("UPDATE workers SET drain = 0")
    world.wait_state(job, "completed")


def test_cancel_keeps_a_last_checkpoint(world: World, worker: WorkerProcess) -> None:
    job, _ = world.hold()
    assert world.http.post(f"/api/v1/jobs/{job}/cancel").is_success
    assert world.wait_state(job, "cancelled")["progress"]["step"] == 45
    assert max(checkpoint["step"] for checkpoint in world.checkpoints(job)) == 45
    assert world.series(job)[0] == list(range(1, 46))
    wait_for(lambda: not worker.trainers(), "the trainer's end")


def test_paused_and_resumed(world: World, worker: WorkerProcess) -> None:
    job, _ = world.hold()
    assert world.http.post(f"/api/v1/jobs/{job}/pause").json()["state"] == "stopping"
    assert world.wait_state(job, "paused")["progress"]["step"] == 45
    wait_for(lambda: not worker.trainers(), "the trainer's end")
    assert world.http.post(f"/api/v1/jobs/{job}/resume").json()["state"] == "queued"
    world.wait_state(job, "completed")
    assert world.attempts(job) == [("interrupted", 0), ("completed", 45)]
    world.assert_as_if_undisturbed(job, 100)
    events = world.http.get(f"/api/v1/jobs/{job}/events").json()
    assert [event["data"]["begin"] for event in events if event["kind"] == "claimed"] == ["scratch", "checkpoint"]


def test_a_crash_fails_the_job_and_shows_the_log(world: World, worker: WorkerProcess) -> None:
    crashed = world.submit(steps=60, accident="crash", accident_at=30)
    raised = world.submit(steps=60, accident="raise", accident_at=30)
    cause = world.wait_state(crashed, "failed")["cause"]
    assert cause["failure"] == "library"
    assert "SIGABRT" in cause["message"]
    cause = world.wait_state(raised, "failed")["cause"]
    assert "exit code 1" in cause["message"]
    assert "planned accident at step 30" in cause["detail"]


def test_a_delivery_that_breaks_gives_the_job_back(world: World, worker: WorkerProcess) -> None:
    """The checkpoints that follow wait for metrics that will never be delivered."""
    job, rundir = world.hold()
    (rundir / "metrics" / "999999.arrow").mkdir()
    world.wait_state(job, "completed")
    assert [state for state, _ in world.attempts(job)] == ["interrupted", "completed"]
    assert "The worker failed, not the training: IsADirectoryError" in world.job(job)["attempts"][0]["cause"]["message"]
    assert worker.process.poll() is None
    world.assert_as_if_undisturbed(job, 100)


def submit_again(world: World) -> dict[str, Any]:
    """Submit always the same training."""
    config = {"steps": 100, "accident": "hold", "accident_at": 45}
    answer = world.http.post("/api/v1/jobs", json={"engine": "toy", "config": config, "seed": 77})
    assert answer.status_code == 201, answer.text
    job = dict(answer.json())
    world.jobs.append(job["id"])
    return job


def test_a_cancelled_training_is_gone_on_from_by_its_twin(world: World, worker: WorkerProcess) -> None:
    first = submit_again(world)["id"]
    world.wait_step(first, 45)
    wait_for(lambda: len(world.checkpoints(first)) == 2, "two checkpoints")
    world.http.post(f"/api/v1/jobs/{first}/cancel", json={"now": True})
    for trainer in worker.trainers():
        kill(trainer)
    world.wait_state(first, "cancelled")
    newest = world.checkpoints(first)[0]
    path = world.data_dir / "blobs" / newest["files"][0]["sha256"][:2] / newest["files"][0]["sha256"][2:]
    path.chmod(0o644)
    path.write_bytes(b"overwritten")

    second = submit_again(world)
    assert second["continues"] == first
    assert second["weight_check"]["summary"].endswith("is corrupt (sha256 differs), continuing from step-20.")
    world.wait_state(second["id"], "completed")
    assert world.attempts(second["id"]) == [("completed", 20)]
    world.assert_as_if_undisturbed(second["id"], 100, seed=77)

    compared = world.http.get(f"/api/v1/jobs/{first}/compare/{second['id']}").json()
    assert compared["verdict"] == "identical-so-far"
