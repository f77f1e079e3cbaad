"""A job of several slots among small ones: on a real queue, with a real worker that has too few free when it is rung."""

import time

from tests.faults.conftest import World, wait_for


def submit_large(world: World, gpus: int) -> int:
    message = {"engine": "toy", "config": {"steps": 30}, "seed": 7, "on_existing": "new", "resources": {"gpus": gpus}}
    answer = world.http.post("/api/v1/jobs", json=message)
    assert answer.status_code == 201, answer.text
    world.jobs.append(int(answer.json()["id"]))
    return world.jobs[-1]


def busy_slots(world: World) -> list[int]:
    return [worker["busy_slots"] for worker in world.http.get("/api/v1/workers").json() if worker["alive"]]


def test_slots_are_kept_for_a_large_job_and_given_to_the_next_when_it_is_cancelled(world: World) -> None:
    world.start_worker(CAIRN_SLOTS="2")
    running, rundir = world.hold()
    large = submit_large(world, 2)
    wait_for(lambda: 2 in busy_slots(world), "the worker to keep its free slot for the large job")
    small = world.submit(steps=30)
    time.sleep(1)
    assert world.job(small)["state"] == "queued", "it would slip past the large one"
    cancelled = submit_large(world, 2)
    (rundir / "go").touch()
    world.wait_state(large, "completed")
    assert world.job(large)["started_at"] > world.job(running)["ended_at"]
    world.http.post(f"/api/v1/jobs/{cancelled}/cancel")
    world.wait_state(small, "completed")


def test_a_small_worker_never_hears_of_a_large_job(world: World) -> None:
    world.start_worker()
    large = submit_large(world, 2)
    world.wait_state(world.submit(steps=30), "completed")
    assert world.job(large)["state"] == "queued"
    world.start_worker(CAIRN_SLOTS="2")
    world.wait_state(large, "completed")
