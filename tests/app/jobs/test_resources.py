"""Jobs of several GPUs: which worker is given one, who waits for it, and what makes it another training."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from app.db import transaction
from app.fleet import upkeep
from app.tables import Job
from app.tables.base import now
from tests.app.simulated import add_worker

TWO, FOUR = ({"gpus": count} for count in (2, 4))


def why_not(answer):
    assert answer.status_code == 409, answer.text
    assert answer.json()["code"] == "not-claimable"
    return answer.json()["message"]


def test_a_worker_is_given_no_more_ranks_than_it_has_gpus_or_slots(submit, worker_client) -> None:
    job = submit(resources=FOUR)
    assert job["resources"] == FOUR
    slots_on_two_gpus = add_worker(worker_client, "two", slots=8, gpus=2)
    assert "it needs 4 GPUs, and this worker has 2" in why_not(slots_on_two_gpus.try_claim(job["id"], slots=4))
    few_slots = add_worker(worker_client, "few", slots=1, gpus=4)
    assert "this worker has 1" in why_not(few_slots.try_claim(job["id"]))
    processors = add_worker(worker_client, "cpu", slots=4)
    assert "it takes 4 slots, and 3 are kept free for it" in why_not(processors.try_claim(job["id"], slots=3))
    assert processors.claim(job["id"], slots=4).claim["ranks"] == 4


def test_no_urgent_job_is_granted_that_does_not_fit_into_the_slots_that_were_taken(submit, worker_client) -> None:
    small, large, urgent = submit()["id"], submit(resources=TWO, priority=9)["id"], submit(priority=5)["id"]
    worker = add_worker(worker_client, "one", slots=2)
    assert worker.claim(small, slots=1).claim["job_id"] == urgent
    assert worker.claim(small, slots=2).claim["job_id"] == large


def test_a_queued_job_says_that_no_worker_is_large_enough(client, submit, worker_client) -> None:
    assert submit()["unserved"].startswith("no worker of deepmd is alive")
    add_worker(worker_client, "two", slots=2, gpus=2)
    job = submit(resources=FOUR)
    assert job["unserved"] == "it needs 4 GPUs of one worker; the largest worker has 2"
    add_worker(worker_client, "four", slots=4, gpus=4)
    assert client.get(f"/api/v1/jobs/{job['id']}").json()["unserved"] is None


def test_a_worker_waits_for_slots_only_as_long_as_the_job_does(client, app, submit, worker_client, settings) -> None:
    job = submit(resources=TWO)["id"]
    worker = add_worker(worker_client, "one", slots=2)
    with transaction(app.state.sessions) as session:
        session.execute(update(Job).values(rung_at=now() - timedelta(minutes=5)))
    assert worker.reserves(job)
    assert upkeep.reconcile(app.state.sessions, settings) == 0, "nobody else is rung meanwhile"
    assert not add_worker(worker_client, "small", slots=1).reserves(job)
    assert not worker.reserves(job, attempt=2)
    client.post(f"/api/v1/jobs/{job}/cancel")
    assert not worker.reserves(job)


def test_the_number_of_ranks_is_part_of_what_a_training_is(submit) -> None:
    """A step of two batches gives other bits; the same submission with one is the training that it always was."""
    one, two = submit(seed=1, on_existing="new"), submit(seed=1, resources=TWO, on_existing="new")
    assert one["digest"] != two["digest"]
    assert one["digest"] == submit(seed=1, resources={"gpus": 1}, on_existing="new")["digest"]
    assert [notice["code"] for notice in two["warnings"]] == ["larger-steps"]
    assert "the learning rate stays as it is written" in two["warnings"][0]["message"]


def test_epochs_of_several_ranks_are_fewer_steps(submit, config) -> None:
    del config["training"]["numb_steps"]
    config["training"]["numb_epoch"] = 3
    assert submit()["progress"]["total_steps"] == 30
    job = submit(resources=FOUR)
    assert job["progress"]["total_steps"] == 8
    assert job["origins"]["/training/numb_steps"]["note"] == "3 epochs of 10 batches (training.numb_epoch), 4 a step"


def test_scaling_the_learning_rate_by_ranks_is_said_to_have_no_effect(submit, config) -> None:
    config["learning_rate"]["scale_by_worker"] = "sqrt"
    origins = submit(resources=TWO)["origins"]
    assert origins["/learning_rate/start_lr"]["origin"] == "explicit"
    why = origins["/learning_rate/scale_by_worker"]["ignored"]
    assert why == "DeePMD-kit's PyTorch backend scales the learning rate by nothing"


@pytest.mark.parametrize("count", [0, 65])
def test_a_number_of_gpus_that_nobody_has_is_refused(client, copper, config, count: int) -> None:
    answer = client.post("/api/v1/jobs", json={"config": config, "resources": {"gpus": count}})
    assert (answer.status_code, answer.json()["pointer"]) == (422, "/resources/gpus")
