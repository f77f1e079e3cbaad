"""The same training submitted again: gone on from, answered with what is there, refused; checked files, whole histories."""

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.db import reading
from app.tables import Blob
from tests.app.simulated import SimulatedAttempt, SimulatedWorker

SEED = 7


def blob_path(app, sha256: str) -> Path:
    return app.state.blobs.backend.path(sha256)


def corrupt(app, checkpoint: dict[str, Any]) -> str:
    """Change the bytes of a checkpoint's first file; return its digest."""
    path = blob_path(app, checkpoint["files"][0]["sha256"])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    return checkpoint["files"][0]["sha256"]


def lose(app, checkpoint: dict[str, Any]) -> None:
    blob_path(app, checkpoint["files"][0]["sha256"]).unlink()


def damaged(app) -> set[str]:
    """Return the digests of files that are recorded as missing or changed."""
    with reading(app.state.sessions) as session:
        return set(session.scalars(select(Blob.sha256).where(Blob.damaged_at.is_not(None))))


@pytest.fixture
def again(client, copper, config):
    """Submit the one training of these tests."""

    def again(status: int = 201, **options: Any) -> dict[str, Any]:
        answer = client.post("/api/v1/jobs", json={"config": config, "seed": SEED, **options})
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    return again


def get(client, path: str) -> Any:
    answer = client.get(f"/api/v1/jobs/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def checkpoints(client, job_id: int) -> list[dict[str, Any]]:
    return list(get(client, f"{job_id}/checkpoints"))


def steps(client, job_id: int) -> list[int]:
    return list(get(client, f"{job_id}/metrics?keys=train/loss")["steps"]["train/loss"])


def train(
    worker: SimulatedWorker, job_id: int, until: int, running: SimulatedAttempt | None = None
) -> SimulatedAttempt:
    """Claim, report every hundredth step with a checkpoint, and return the attempt."""
    running = running or worker.claim(job_id)
    start = (running.claim["resume_from"] or {"step": 0})["step"]
    for seq, step in enumerate(range(start + 100, until + 1, 100)):
        assert running.metrics(seq, [step], **{"train/loss": [1.0 / step]}).status_code == 204
        assert running.checkpoint(step, fingerprint=f"{step:064d}").status_code == 200
    return running


def fail(running, step: int) -> None:
    assert running.end("failed", step, "library").json() == {"job_state": "failed"}


def complete(worker, job_id: int) -> None:
    """Claim, report all steps at once with the last two checkpoints, and end."""
    running, steps = worker.claim(job_id), list(range(100, 1001, 100))
    assert running.metrics(0, steps, **{"train/loss": [1.0 / step for step in steps]}).status_code == 204
    assert all(running.checkpoint(step).status_code == 200 for step in (900, 1000))
    assert running.end("completed", 1000).json() == {"job_state": "completed"}


def test_an_interrupted_twin_is_gone_on_from(client, again, worker):
    first = again(name="first")
    assert first["weight_check"]["decision"] == "scratch"
    fail(train(worker, first["id"], 300), 350)
    second = again(name="second", tags=["more"])
    assert (second["continues"], second["digest"]) == (first["id"], first["digest"])
    check = second["weight_check"]
    assert (check["decision"], check["twin"], check["step"]) == ("resume", first["id"], 300)
    assert check["summary"] == (
        f"Found 3 checkpoints of an interrupted twin (job {first['id']}, failed at step 350 of 1000); "
        "step-300 is intact, continuing from it."
    )
    assert second["progress"]["step"] == 300
    assert second["progress"]["latest"] == first["progress"]["latest"] | {"train/loss": 1 / 300}
    assert [row["step"] for row in checkpoints(client, second["id"])] == [300, 200, 100]
    assert steps(client, second["id"]) == [100, 200, 300]
    events = get(client, f"{second['id']}/events")
    assert [event["kind"] for event in events] == ["submitted", "weight-check"]
    assert events[1]["message"] == check["summary"]
    running = train(worker, second["id"], 1000)
    assert running.claim["resume_from"]["step"] == 300
    assert (
        running.claim["resume_from"]["files"][0]["sha256"] == checkpoints(client, first["id"])[0]["files"][0]["sha256"]
    )
    running.end("completed", 1000)
    assert steps(client, second["id"]) == list(range(100, 1001, 100))
    keys = get(client, f"{second['id']}/metrics/keys")["keys"]
    assert [(key["count"], key["first_step"], key["last_step"]) for key in keys] == [(10, 100, 1000)]
    curve = client.get(f"/api/v1/jobs/{second['id']}/metrics?format=csv").text.splitlines()
    assert [line.split(",")[0] for line in curve] == ["step", *map(str, range(100, 1001, 100))]


def begun(running, weights: str = "0") -> None:
    """Report what a training from scratch reports before its first step."""
    data = {"stage": "init", "step": 0, "sha256": weights * 64}
    assert running.events({"seq": 0, "kind": "fingerprint", "message": "weights", "data": data}).status_code == 204
    assert running.environment({"host": "one"}).status_code == 204


def test_the_whole_run_is_compared_and_reproduced(client, again, worker):
    first = again()
    running = worker.claim(first["id"])
    begun(running)
    fail(train(worker, first["id"], 300, running=running), 350)
    second = again()
    running = worker.claim(second["id"])
    assert running.environment({"host": "two"}).status_code == 204
    train(worker, second["id"], 1000, running=running).end("completed", 1000)
    undisturbed = again(on_existing="new")
    running = worker.claim(undisturbed["id"])
    assert running.claim["resume_from"] is None
    begun(running)
    train(worker, undisturbed["id"], 1000, running=running).end("completed", 1000)

    compared = get(client, f"{second['id']}/compare/{undisturbed['id']}")
    assert (compared["verdict"], compared["steps"], compared["checkpoints"]) == ("identical", 10, 10)
    assert [pair["stage"] for pair in compared["beginning"]] == ["init"]
    (move,) = compared["moves"]
    assert (move["left_job"], move["left_attempt"]) == (first["id"], 1)
    assert (move["right_job"], move["right_attempt"]) == (second["id"], 1)

    answer = client.post(f"/api/v1/jobs/{second['id']}/reproduce", json={})
    assert answer.status_code == 201
    reproduction = answer.json()
    assert (reproduction["continues"], reproduction["progress"]["step"]) == (None, 0)
    assert worker.claim(reproduction["id"]).claim["resume_from"] is None


def test_a_chain_of_twins_is_one_history(client, again, worker):
    first = again()
    fail(train(worker, first["id"], 300), 350)
    second = again()
    fail(worker.claim(second["id"]), 310)  # before a checkpoint of its own
    third = again()
    assert third["weight_check"]["twins"] == {str(second["id"]): "failed", str(first["id"]): "failed"}
    assert third["continues"] == second["id"]
    fail(train(worker, third["id"], 400), 450)
    fourth = again()
    assert (fourth["continues"], fourth["weight_check"]["step"]) == (third["id"], 400)
    train(worker, fourth["id"], 600)
    assert steps(client, fourth["id"]) == [100, 200, 300, 400, 500, 600]


def test_corrupt_and_missing_checkpoints_are_named_and_passed_over(app, client, again, worker):
    first = again()
    fail(train(worker, first["id"], 400), 450)
    newest, older, *_ = checkpoints(client, first["id"])
    lose(app, newest)
    changed = corrupt(app, older)
    second = again()
    assert second["weight_check"]["summary"] == (
        f"Found 4 checkpoints of an interrupted twin (job {first['id']}, failed at step 450 of 1000); "
        "step-400 is missing; step-300 is corrupt (sha256 differs), continuing from step-200."
    )
    assert [(file["step"], file["intact"], file["problem"]) for file in second["weight_check"]["checkpoints"]] == [
        (400, False, "missing"),
        (300, False, "sha256 differs"),
        (200, True, None),
    ]
    assert [row["step"] for row in checkpoints(client, second["id"])] == [200, 100]
    assert steps(client, second["id"]) == [100, 200]
    assert damaged(app) == {changed, newest["files"][0]["sha256"]}


def test_without_a_good_checkpoint_it_begins_anew(app, client, again, worker):
    first = again()
    fail(train(worker, first["id"], 100), 150)
    corrupt(app, checkpoints(client, first["id"])[0])
    second = again()
    assert second["weight_check"]["decision"] == "scratch"
    assert second["weight_check"]["summary"].endswith("step-100 is corrupt (sha256 differs): from the start.")
    assert (second["continues"], second["progress"]["step"], steps(client, second["id"])) == (None, 0, [])


def test_a_completed_twin_whose_last_weights_are_damaged_is_gone_on_from(app, client, again, worker):
    first = again()
    complete(worker, first["id"])
    lose(app, checkpoints(client, first["id"])[0])
    second = again()
    assert (second["weight_check"]["decision"], second["weight_check"]["step"]) == ("resume", 900)


def test_a_restart_says_which_checkpoint_it_could_not_use(app, client, again, worker):
    job = again()
    train(worker, job["id"], 300).end("interrupted", 300)
    changed = corrupt(app, checkpoints(client, job["id"])[0])
    running = worker.claim(job["id"], 2)
    assert running.claim["resume_from"]["step"] == 200
    (told,) = [event for event in get(client, f"{job['id']}/events") if event["kind"] == "damaged"]
    assert told["message"] == "checkpoint step-300 is corrupt (sha256 differs); step-200 is used instead"
    assert told["attempt"] == 2
    assert damaged(app) == {changed}
    running.end("interrupted", 200)
    for row in checkpoints(client, job["id"]):
        if row["step"] < 300:
            lose(app, row)
    assert worker.claim(job["id"], 3).claim["resume_from"] is None
    assert get(client, f"{job['id']}/events")[-2]["message"] == (
        "checkpoint step-300 is corrupt (sha256 differs), step-200 is missing, step-100 is missing; "
        "there is no older one that is good"
    )


def test_the_twins_checkpoint_outlives_the_twins_own(app, client, again, worker):
    first = again(checkpoints={"keep_last": 2})
    running = train(worker, first["id"], 300)
    client.post(f"/api/v1/jobs/{first['id']}/cancel", json={"now": True})
    running.end("stopped", 300)
    second = again(checkpoints={"keep_last": 2})
    digests = {file["sha256"] for row in checkpoints(client, second["id"]) for file in row["files"]}
    train(worker, second["id"], 500)
    kept = [row["step"] for row in checkpoints(client, second["id"])]
    assert kept == [500, 400]
    assert [row["step"] for row in checkpoints(client, first["id"])] == [300, 200]
    assert all(app.state.blobs.intact(digest) for digest in digests)


def test_of_a_completed_twin_is_asked_by_409(client, again, worker):
    first = again()
    complete(worker, first["id"])
    refused = again(409)
    assert (refused["code"], refused["pointer"]) == ("twin-exists", "/on_existing")
    assert refused["message"] == f"Job {first['id']}, completed after step 1000 of 1000, is the same training."
    for policy in ("reuse", "resume"):
        answer = again(200, on_existing=policy)
        assert answer["id"] == first["id"]
        assert answer["weight_check"]["decision"] == "reuse"
    assert get(client, str(first["id"]))["weight_check"]["decision"] == "scratch"
    assert [event["kind"] for event in get(client, f"{first['id']}/events")][-2:] == ["reused", "reused"]
    assert again(409, on_existing="fail")["code"] == "twin-exists"
    fresh = again(on_existing="new")
    assert fresh["id"] != first["id"]
    assert worker.claim(fresh["id"]).claim["resume_from"] is None


def test_of_a_live_twin_and_a_paused_one(client, again, worker):
    first = again()
    assert again(409)["code"] == "twin-exists"
    assert again(200, on_existing="reuse")["id"] == again(200, on_existing="resume")["id"] == first["id"]
    assert client.post(f"/api/v1/jobs/{first['id']}/pause").status_code == 200
    for policy in (None, "resume", "reuse"):
        assert again(409, on_existing=policy)["hint"].startswith(f"`cairn resume {first['id']}` lets it go on.")


def test_reuse_without_a_twin_trains(again):
    assert again(201, on_existing="reuse")["state"] == "queued"


def test_another_seed_or_a_drawn_one_is_another_training(again, submit):
    jobs = [again(), again(seed=8), submit(), submit()]
    assert len({job["id"] for job in jobs}) == 4
    assert all(job["weight_check"]["twins"] == {} for job in jobs)


def test_less_determinism_than_asked_for_is_no_twin(again):
    again(determinism="seeded")
    assert again(determinism="strict")["weight_check"]["twins"] == {}
    assert again(409, determinism="fast")["code"] == "twin-exists"


def test_the_idempotency_key_decides_first(client, copper, config, again, worker):
    body = {"config": config, "seed": SEED}
    first = client.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "one"})
    second = client.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "one"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]


def test_a_check_says_what_would_be_decided(client, copper, config, again, worker, hurried):
    def check(**options):
        answer = client.post("/api/v1/configs/resolve", json={"config": config, "seed": SEED, **options})
        assert answer.status_code == 200, answer.text
        return answer.json()["weight_check"]

    assert check()["decision"] == "scratch"
    job = again()
    assert (check()["decision"], check()["twin"]) == ("refused", job["id"])
    fail(train(worker, job["id"], 200), 250)
    assert (check()["decision"], check()["step"]) == ("resume", 200)
    assert check(on_existing="new")["decision"] == "scratch"


def test_a_reproduction_is_a_twin_only_when_completed(client, again, worker):
    first = again()
    worker.claim(first["id"]).end("failed", 10, "library")
    reproduction = client.post(f"/api/v1/jobs/{first['id']}/reproduce", json={}).json()
    fail(train(worker, reproduction["id"], 200), 250)
    assert again(on_existing="new")["weight_check"]["twins"] == {str(first["id"]): "failed"}
    second = client.post(f"/api/v1/jobs/{first['id']}/reproduce", json={}).json()
    complete(worker, second["id"])
    assert second["weight_check"] is None
    assert str(second["id"]) in again(200, on_existing="reuse")["weight_check"]["twins"]


def test_of_two_submissions_at_once_one_trains(client, copper, config):
    barrier, answers = threading.Barrier(4), []

    def go():
        barrier.wait()
        answers.append(client.post("/api/v1/jobs", json={"config": config, "seed": SEED}).status_code)

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201, 409, 409, 409]


def test_a_group_is_checked_as_a_whole(client, again, worker):
    first = again(replicas=2)
    one, two = (job["id"] for job in client.get(f"/api/v1/jobs?group={first['group']}").json()["items"][::-1])
    refused = again(409, replicas=2)
    assert refused["message"].startswith("For 2 of 2 replicas the same training is here already. Job ")
    same = again(200, replicas=2, on_existing="reuse")
    assert (same["id"], same["group"]) == (one, first["group"])
    complete(worker, one)
    fail(train(worker, two, 300), 350)
    assert again(409, replicas=2)["message"].startswith("For 1 of 2 replicas the same training is here already. Job ")
    second = again(replicas=2, on_existing="resume")
    jobs = client.get(f"/api/v1/jobs?group={second['group']}").json()["items"][::-1]
    assert [(job["continues"], job["progress"]["step"]) for job in jobs] == [(one, 1000), (two, 300)]
    running = worker.claim(jobs[0]["id"])
    assert running.claim["resume_from"]["step"] == 1000
    assert running.end("completed", 1000).json() == {"job_state": "completed"}
    assert steps(client, jobs[0]["id"]) == list(range(100, 1001, 100))
