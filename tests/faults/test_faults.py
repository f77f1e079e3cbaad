"""Every part of the data plane killed, cut off and rung twice: jobs end right, metrics are complete and unduplicated."""

import json
import os
import signal
import time
from typing import Any

import pytest

from app.wire.jobs import FINAL_STATES
from tests.faults.conftest import PATIENCE_S, World, is_gone, kill, wait_for

pytestmark = pytest.mark.xdist_group("faults")


def test_from_submission_to_completion(world: World) -> None:
    world.start_worker()
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


def test_a_killed_trainer(world: World) -> None:
    worker = world.start_worker()
    job, _ = world.hold()
    kill(worker.trainers()[0])
    world.wait_state(job, "completed")
    assert world.attempts(job) == [("interrupted", 0), ("completed", 40)]
    cause = world.job(job)["attempts"][0]["cause"]
    assert cause["failure"] == "killed"
    assert cause["message"] == "The trainer was killed by SIGKILL after step 45."
    world.assert_as_if_undisturbed(job, 100)


def test_a_killed_worker(world: World) -> None:
    worker = world.start_worker()
    job, left = world.hold(accident="hold with child")
    family = worker.family()
    assert len(family) == 3
    kill(worker.process)
    wait_for(lambda: all(is_gone(process) for process in family), "the end of forkserver, trainer and its child")
    assert left.exists()
    world.let_lease_run_out(job)
    world.start_worker()
    world.wait_state(job, "completed")
    assert world.attempts(job) == [("lost", 0), ("completed", 40)]
    world.assert_as_if_undisturbed(job, 100)
    assert not left.exists()


def test_a_killed_forkserver(world: World) -> None:
    worker = world.start_worker()
    job, _ = world.hold()
    kill(next(process for process in worker.family() if process not in worker.trainers()))
    world.wait_state(job, "completed")
    assert world.attempts(job) == [("interrupted", 0), ("completed", 40)]
    world.assert_as_if_undisturbed(job, 100)


def test_training_goes_on_while_the_api_is_away(world: World) -> None:
    world.start_worker()
    job, rundir = world.hold(steps=150)
    world.kill_api()
    (rundir / "go").touch()
    wait_for(lambda: json.loads((rundir / "status.json").read_bytes())["step"] > 60, "steps without an API")
    world.start_api()
    world.wait_state(job, "completed")
    assert world.attempts(job) == [("completed", 0)]
    world.assert_as_if_undisturbed(job, 150)


def test_a_training_that_ends_while_the_api_is_away(world: World) -> None:
    worker = world.start_worker()
    job, rundir = world.hold()
    world.kill_api()
    (rundir / "go").touch()
    wait_for(lambda: not worker.trainers(), "the trainer's end")
    world.start_api()
    world.wait_state(job, "completed")
    assert world.attempts(job) == [("completed", 0)]
    world.assert_as_if_undisturbed(job, 100)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_shuts_down_gives_its_job_back(world: World, number: signal.Signals) -> None:
    worker = world.start_worker()
    job, _ = world.hold()
    os.kill(worker.process.pid, number)
    assert worker.process.wait(PATIENCE_S) == 0
    assert world.attempts(job) == [("interrupted", 0)]
    world.start_worker()
    world.wait_state(job, "completed")
    assert world.attempts(job) == [("interrupted", 0), ("completed", 45)]
    world.assert_as_if_undisturbed(job, 100)


def test_a_deaf_trainer_is_killed_after_its_grace(world: World) -> None:
    worker = world.start_worker(CAIRN_STOP_GRACE_S="1")
    job, _ = world.hold(accident="deaf")
    started = time.monotonic()
    worker.process.terminate()
    assert worker.process.wait(PATIENCE_S) == 0
    assert time.monotonic() - started >= 1
    assert world.attempts(job) == [("interrupted", 0)]


def test_a_second_signal_does_not_wait_for_the_grace(world: World) -> None:
    worker = world.start_worker(CAIRN_STOP_GRACE_S="600")
    world.hold(accident="deaf")
    trainer = worker.trainers()[0]
    worker.process.terminate()
    wait_for(lambda: "telling the trainer to stop" in worker.log.read_text(), "the first signal's effect")
    assert worker.process.poll() is None
    worker.process.terminate()
    assert worker.process.wait(PATIENCE_S) == 0
    assert is_gone(trainer)


def test_doorbells_rung_again_and_again(world: World) -> None:
    for _ in range(2):
        world.start_worker(CAIRN_SLOTS="2")
    job, rundir = world.hold()
    for _ in range(20):
        world.ring(job, 1)
    world.ring(job, 2)
    world.ring(job + 1, 1)
    (rundir / "go").touch()
    world.wait_state(job, "completed")
    assert world.attempts(job) == [("completed", 0)]
    assert world.http.get(f"/api/v1/jobs/{job}/logs").text.count("started") == 1
    world.assert_as_if_undisturbed(job, 100)


def test_a_killed_broker_that_forgets_everything(world: World) -> None:
    worker = world.start_worker()
    running, rundir = world.hold()
    waiting = world.submit(steps=20)
    world.redis.kill()
    submitted_meanwhile = world.submit(steps=20)
    world.redis.start()
    (rundir / "go").touch()
    for job in (running, waiting, submitted_meanwhile):
        world.wait_state(job, "completed")
        assert world.attempts(job) == [("completed", 0)]
    assert worker.process.poll() is None


def test_a_server_that_forgot_its_workers(world: World) -> None:
    worker = world.start_worker()
    wait_for(lambda: "known to the API" in worker.log.read_text(), "the first hello")
    world.sql("DELETE FROM workers WHERE id NOT IN (SELECT worker_id FROM attempts)")
    job = world.submit(steps=20)
    world.wait_state(job, "completed")
    assert worker.log.read_text().count("known to the API") == 2


def test_a_drained_worker_takes_no_work_until_it_is_wanted_again(world: World) -> None:
    worker = world.start_worker()
    wait_for(lambda: "known to the API" in worker.log.read_text(), "the first hello")
    world.sql("UPDATE workers SET drain = 1")
    wait_for(lambda: "draining" in worker.log.read_text(), "the order to drain")
    time.sleep(1.5)
    job = world.submit(steps=20)
    time.sleep(1.5)
    assert world.job(job)["state"] == "queued"
    world.sql("UPDATE workers SET drain = 0")
    world.wait_state(job, "completed")


def test_cancel_keeps_a_last_checkpoint(world: World) -> None:
    worker = world.start_worker()
    job, _ = world.hold()
    assert world.http.post(f"/api/v1/jobs/{job}/cancel").is_success
    assert world.wait_state(job, "cancelled")["progress"]["step"] == 45
    assert max(checkpoint["step"] for checkpoint in world.checkpoints(job)) == 45
    assert world.series(job)[0] == list(range(1, 46))
    wait_for(lambda: not worker.trainers(), "the trainer's end")


def test_paused_and_resumed(world: World) -> None:
    worker = world.start_worker()
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


def test_a_worker_killed_while_it_pauses(world: World) -> None:
    worker = world.start_worker(CAIRN_STOP_GRACE_S="600")
    job, _ = world.hold(accident="deaf")
    world.http.post(f"/api/v1/jobs/{job}/pause")
    wait_for(lambda: "telling the trainer to stop" in worker.log.read_text(), "the order to reach the trainer")
    kill(worker.process)
    world.let_lease_run_out(job)
    assert world.wait_state(job, "paused")["progress"]["step"] == 40
    world.start_worker()
    world.http.post(f"/api/v1/jobs/{job}/resume")
    world.wait_state(job, "completed")
    assert world.attempts(job) == [("lost", 0), ("completed", 40)]
    world.assert_as_if_undisturbed(job, 100)


def test_a_superseded_attempt_kills_its_trainer(world: World) -> None:
    """The worker is frozen for longer than its lease, as a suspended laptop is; then it comes back."""
    frozen = world.start_worker()
    job, rundir = world.hold()
    trainer = frozen.trainers()[0]
    frozen.process.send_signal(signal.SIGSTOP)
    world.let_lease_run_out(job)
    wait_for(lambda: world.attempts(job)[0][0] == "lost", "the lease to run out")
    world.start_worker(CAIRN_WORK_DIR=str(world.work_dir / "second"))
    world.wait_state(job, "completed")
    assert not is_gone(trainer)
    (rundir / "go").touch()  # it trains on, and what it says must not count
    frozen.process.send_signal(signal.SIGCONT)
    wait_for(lambda: is_gone(trainer), "the superseded trainer's end")
    wait_for(lambda: not rundir.exists(), "the run directory's removal")
    assert world.attempts(job) == [("lost", 0), ("completed", 40)]
    world.assert_as_if_undisturbed(job, 100)


def test_a_crash_fails_the_job_and_shows_the_log(world: World) -> None:
    world.start_worker()
    crashed = world.submit(steps=60, accident="crash", accident_at=30)
    raised = world.submit(steps=60, accident="raise", accident_at=30)
    cause = world.wait_state(crashed, "failed")["cause"]
    assert cause["failure"] == "library"
    assert "SIGABRT" in cause["message"]
    cause = world.wait_state(raised, "failed")["cause"]
    assert "exit code 1" in cause["message"]
    assert "planned accident at step 30" in cause["detail"]


def test_as_many_at_once_as_there_are_slots(world: World) -> None:
    worker = world.start_worker(CAIRN_SLOTS="2")
    jobs = [world.submit(steps=60, step_s=0.02) for _ in range(4)]
    most = 0

    def all_ended() -> bool:
        nonlocal most
        most = max(most, len(worker.trainers()))
        return all(world.job(job)["state"] in FINAL_STATES for job in jobs)

    wait_for(all_ended, "the end of four jobs")
    for job in jobs:
        world.wait_state(job, "completed")
        world.assert_as_if_undisturbed(job, 60)
    assert most == 2


def test_a_delivery_that_breaks_gives_the_job_back(world: World) -> None:
    """The checkpoints that follow wait for metrics that will never be delivered."""
    worker = world.start_worker(CAIRN_FLUSH_S="1")
    job = world.submit(steps=100, accident="unreadable", accident_at=45)
    world.wait_state(job, "completed")
    assert [state for state, _ in world.attempts(job)] == ["interrupted", "completed"]
    assert "The worker failed, not the training: IsADirectoryError" in world.job(job)["attempts"][0]["cause"]["message"]
    assert worker.process.poll() is None
    world.assert_as_if_undisturbed(job, 100)


def test_a_worker_with_a_wrong_token_ends_with_words(world: World) -> None:
    worker = world.start_worker(CAIRN_WORKER_TOKEN="wrong")
    assert worker.process.wait(PATIENCE_S) == 1
    assert "refuses this worker" in worker.log.read_text()


def submit_again(world: World) -> dict[str, Any]:
    """Submit always the same training."""
    config = {"steps": 100, "accident": "hold", "accident_at": 45}
    answer = world.http.post("/api/v1/jobs", json={"engine": "toy", "config": config, "seed": 77})
    assert answer.status_code == 201, answer.text
    job = dict(answer.json())
    world.jobs.append(job["id"])
    return job


def test_a_cancelled_training_is_gone_on_from_by_its_twin(world: World) -> None:
    worker = world.start_worker()
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
