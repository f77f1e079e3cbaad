"""Every part of the data plane killed, cut off and rung twice, one by one.

What the random campaign does, too, is left to `make test-long` and `make test-faults`.
"""

import json
import os
import signal
import time

import pytest

from app.wire.states import FINAL_STATES
from tests.faults.conftest import PATIENCE_S, World, is_gone, kill, wait_for
from tests.faults.link import Link


@pytest.mark.long
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


@pytest.mark.long
def test_a_killed_forkserver(world: World) -> None:
    worker = world.start_worker()
    job, _ = world.hold()
    kill(next(process for process in worker.family() if process not in worker.trainers()))
    world.wait_state(job, "completed")
    assert world.attempts(job) == [("interrupted", 0), ("completed", 40)]
    world.assert_as_if_undisturbed(job, 100)


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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
    newest = world.http.get("/api/v1/workers").json()[0]
    assert (newest["name"], newest["alive"], newest["stopped"]) == ("worker0", False, True)


@pytest.mark.long
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


@pytest.mark.long
def test_a_network_that_is_cut_for_a_minute(world: World) -> None:
    with Link(world.port) as link:
        world.start_worker(CAIRN_API_URL=f"http://127.0.0.1:{link.port}")
        job, rundir = world.hold()
        link.cut()
        time.sleep(60)
        assert world.attempts(job) == [("lost", 0)]
        (rundir / "go").touch()  # it trains on, and what it says must not count
        link.mend()
        world.wait_state(job, "completed")
    assert world.attempts(job) == [("lost", 0), ("completed", 40)]
    world.assert_as_if_undisturbed(job, 100)


@pytest.mark.long
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


@pytest.mark.long
def test_a_killed_broker_that_forgets_everything(world: World) -> None:
    worker = world.start_worker()
    running, rundir = world.hold()
    waiting = world.submit(steps=20)
    world.redis.kill()
    world.redis.forget()
    submitted_meanwhile = world.submit(steps=20)
    world.redis.start()
    (rundir / "go").touch()
    for job in (running, waiting, submitted_meanwhile):
        world.wait_state(job, "completed")
        assert world.attempts(job) == [("completed", 0)]
    assert worker.process.poll() is None


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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


def test_a_worker_with_a_wrong_token_ends_with_words(world: World) -> None:
    worker = world.start_worker(CAIRN_WORKER_TOKEN="wrong")
    assert worker.process.wait(PATIENCE_S) == 1
    assert "refuses this worker" in worker.log.read_text()
