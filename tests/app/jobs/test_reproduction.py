"""Running jobs again from their frozen specs: what is taken over, what is refused, and the verdict."""

import threading
from importlib.metadata import version

import pytest
from sqlalchemy import update

from app.db import transaction
from app.fleet import upkeep
from app.jobs import reproduction
from app.settings import Settings
from app.tables import Dataset, MetricChunk
from tests.app.jobs.conftest import inspect, list_tensors, register
from tests.app.simulated import SimulatedAttempt

LOSS = "train/loss"
SAME = (
    "resolved", "origins", "seeds", "seed", "determinism", "submitted", "start", "base", "base_sha256", "plan", "datasets",
    "digest", "engine", "tags", "priority", "warnings", "inheritance",
)  # fmt: skip


@pytest.fixture
def attempt(submit, worker) -> SimulatedAttempt:
    """A job in its first attempt."""
    options = {"name": "copper", "tags": ["a"], "priority": 3, "determinism": "strict", "checkpoints": {"keep_last": 9}}
    return worker.claim(submit(**options)["id"])


@pytest.fixture
def reproduce(client):
    """Ask for the reproduction of a job and return it."""

    def reproduce(attempt, body=None, status=201, **headers):
        answer = client.post(f"/api/v1/jobs/{attempt.claim['job_id']}/reproduce", json=body or {}, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    return reproduce


@pytest.fixture
def conclude(app, client):
    return lambda: reproduction.conclude(app.state.sessions, Settings())


def show(client, job_id):
    return client.get(f"/api/v1/jobs/{job_id}").json()


def told(client, job_id, kind="reproduction"):
    return [event for event in client.get(f"/api/v1/jobs/{job_id}/events").json() if event["kind"] == kind]


def train(attempt, steps, change=0.0):
    """Send metrics of steps 1 to `steps`; the last value is changed."""
    values = [1.0 / step for step in range(1, steps + 1)]
    values[-1] += change
    assert attempt.metrics(0, list(range(1, steps + 1)), **{LOSS: values}).status_code == 204


def test_a_reproduction_has_the_same_spec_and_waits_in_the_queue(client, attempt, reproduce, worker):
    original = show(client, attempt.claim["job_id"])
    job = reproduce(attempt)
    assert (job["state"], job["reproduces"], job["reproduction"]) == ("queued", original["id"], None)
    assert job["name"] == "reproduction of copper"
    for field in SAME:
        assert job[field] == original[field], field
    assert job["progress"]["total_steps"] == 1000
    (event,) = told(client, job["id"], "reproduces")
    assert event["data"] == {"job": original["id"]}
    second = worker.claim(job["id"])
    ours = {**second.claim, **dict.fromkeys(("job_id", "job_name", "attempt_id", "token", "file_stem"))}
    theirs = {**attempt.claim, **dict.fromkeys(("job_id", "job_name", "attempt_id", "token", "file_stem"))}
    assert ours == theirs, "the worker is told the same"
    assert second.claim["file_stem"].startswith("reproduction-of-copper-")


def test_a_reproduction_is_found_by_its_values_like_any_job(client, attempt, reproduce):
    job = reproduce(attempt)
    found = client.get("/api/v1/jobs", params={"where": "explicit:descriptor.rcut = 5"}).json()["items"]
    assert [(one["id"], one["reproduces"]) for one in found] == [
        (job["id"], attempt.claim["job_id"]),
        (attempt.claim["job_id"], None),
    ]


def test_data_of_a_newer_version_is_not_taken(client, app, attempt, reproduce, copper):
    with transaction(app.state.sessions) as session:
        values = {column.name: getattr(copper, column.name) for column in Dataset.__table__.columns}
        session.add(Dataset(**values | {"id": None, "version": 2, "digest": "d1" * 32}))
    assert reproduce(attempt)["datasets"] == ["dataset:copper@1"]


def test_a_reproduction_may_be_named(attempt, reproduce, worker):
    assert reproduce(attempt, {"name": "again"})["name"] == "again"
    again = worker.claim(reproduce(attempt)["id"])
    assert reproduce(again)["name"] == "reproduction of copper", "the words do not pile up"


def test_a_running_reproduction_says_how_far_it_is_identical(client, attempt, reproduce, worker):
    train(attempt, 1000)
    job = reproduce(attempt)
    train(worker.claim(job["id"]), 240)
    found = client.get(f"/api/v1/jobs/{attempt.claim['job_id']}/compare/{job['id']}").json()
    assert found["summary"] == "identical so far (240 steps)"


def test_the_verdict_comes_on_the_timeline_when_both_have_ended(client, attempt, reproduce, worker, conclude):
    job = reproduce(attempt)
    again = worker.claim(job["id"])
    for one in (attempt, again):
        train(one, 1000)
        one.checkpoint(400)
        one.checkpoint(800)
    again.end("completed", 1000)
    assert conclude() == 0, "the original goes on"
    assert told(client, job["id"]) == []
    attempt.end("completed", 1000)
    before = client.get(f"/api/v1/jobs/{job['id']}").headers["ETag"]
    assert conclude() == 1
    (event,) = told(client, job["id"])
    assert event["message"] == "identical: 1,000 steps, 2 checkpoints"
    assert (event["data"]["job"], event["data"]["verdict"]) == (attempt.claim["job_id"], "identical")
    assert show(client, job["id"])["reproduction"] == "identical"
    assert client.get(f"/api/v1/jobs/{job['id']}").headers["ETag"] != before
    assert conclude() == 0
    assert len(told(client, job["id"])) == 1
    assert told(client, attempt.claim["job_id"]) == []


def test_the_verdict_names_the_first_step_that_differs(client, attempt, reproduce, worker, conclude):
    job = reproduce(attempt)
    again = worker.claim(job["id"])
    train(attempt, 77)
    train(again, 77, change=2e-18)
    for one in (attempt, again):
        one.end("failed", 77, "non-finite")
    assert conclude() == 1
    (event,) = told(client, job["id"])
    assert event["message"].startswith("diverged at step 77: train/loss is 0.012987012987012988 in job")
    assert event["data"]["divergence"]["step"] == 77
    assert show(client, job["id"])["reproduction"] == "diverged"


def test_a_reproduction_that_never_ran_is_concluded_too(client, attempt, reproduce, conclude):
    job = reproduce(attempt)
    attempt.end("failed", 0, "data")
    client.post(f"/api/v1/jobs/{job['id']}/cancel")
    assert conclude() == 1
    assert show(client, job["id"])["reproduction"] == "not-comparable"


def test_one_that_cannot_be_compared_does_not_keep_others_from_it(
    client, app, attempt, reproduce, conclude, worker, caplog
):
    jobs = [reproduce(attempt) for _ in range(2)]
    broken = worker.claim(jobs[0]["id"])
    train(broken, 5)
    with transaction(app.state.sessions) as session:
        spoiled = update(MetricChunk).where(MetricChunk.job_id == jobs[0]["id"]).values(data=b"not Arrow")
        session.execute(spoiled)
    broken.end("failed", 5, "data")
    client.post(f"/api/v1/jobs/{jobs[1]['id']}/cancel")
    attempt.end("failed", 0, "data")
    assert conclude() == 1
    assert [show(client, job["id"])["reproduction"] for job in jobs] == [None, "not-comparable"]
    assert f"job {jobs[0]['id']} could not be compared" in caplog.text


def test_upkeep_concludes(client, app, attempt, reproduce, settings):
    job = reproduce(attempt)
    attempt.end("failed", 0, "data")
    client.post(f"/api/v1/jobs/{job['id']}/cancel")
    settings.reconcile_s = 0.05
    background = upkeep.Upkeep(app.state.sessions, settings)
    waited = threading.Event()
    try:
        for _ in range(200):
            if show(client, job["id"])["reproduction"]:
                break
            waited.wait(0.05)
    finally:
        background.close()
    assert show(client, job["id"])["reproduction"] == "not-comparable"


def test_a_repeated_key_is_one_reproduction(client, attempt, reproduce):
    key = {"Idempotency-Key": "once"}
    job = reproduce(attempt, **key)
    assert reproduce(attempt, status=200, **key)["id"] == job["id"]
    refused = reproduce(attempt, {"name": "other"}, status=422, **key)
    assert refused["code"] == "idempotency-key-reused"
    assert reproduce(attempt)["id"] != job["id"]


# --- bases ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tuned(client, app, stub_worker, hurried):
    """A job that is fine-tuned from `water`, in its first attempt."""
    worker = stub_worker()
    register(app)
    inspect(app, worker)
    submit = {"engine": "stub", "config": {"cutoff": 9.0}, "start": {"mode": "finetune", "base": "water"}}
    job_id = client.post("/api/v1/jobs", json=submit).json()["id"]
    list_tensors(app, worker)
    return worker.claim(job_id), worker


def test_a_job_with_a_base_starts_from_the_same_base_by_the_same_plan(client, app, tuned, reproduce):
    attempt, worker = tuned
    original = show(client, attempt.claim["job_id"])
    register(app, content=b"newer water")
    inspect(app, worker)
    job = reproduce(attempt)
    assert job["state"] == "queued", "the plan is there: nothing waits for a list of tensors"
    assert (job["base"], job["plan"]["counts"]) == ("water@1", {"copied": 1})
    for field in SAME:
        assert job[field] == original[field], field
    again = worker.claim(job["id"])
    for field in ("base", "plan", "start", "config"):
        assert again.claim[field] == attempt.claim[field], field
    found = client.get(f"/api/v1/jobs/{original['id']}/compare/{job['id']}").json()
    assert (found["config"], found["spec"]) == ([], [])


def test_another_base_is_a_difference(client, app, tuned):
    attempt, worker = tuned
    register(app, name="ice", content=b"ice")
    inspect(app, worker)
    submit = {"engine": "stub", "config": {"cutoff": 9.0}, "start": {"mode": "finetune", "base": "ice"}}
    other = client.post("/api/v1/jobs", json=submit).json()["id"]
    spec = client.get(f"/api/v1/jobs/{attempt.claim['job_id']}/compare/{other}").json()["spec"]
    pointers = {one["pointer"] for one in spec}
    assert {"/base", "/start/base"} <= pointers


def test_a_resumed_job_goes_on_from_the_same_step(client, app, stub_worker, hurried, reproduce):
    worker = stub_worker()
    register(app)
    inspect(app, worker, config={"width": 8, "steps": 500}, form="Cairn checkpoint", step=100)
    body = {"engine": "stub", "config": {}, "start": {"mode": "resume", "base": "water"}}
    attempt = worker.claim(client.post("/api/v1/jobs", json=body).json()["id"])
    assert attempt.claim["resume_from"]["step"] == 100
    job = reproduce(attempt)
    assert job["progress"]["step"] == 100
    assert worker.claim(job["id"]).claim["resume_from"] == attempt.claim["resume_from"]


# --- refused ----------------------------------------------------------------------------------------------------------


def test_a_job_that_was_never_run_is_refused(client, submit):
    answer = client.post(f"/api/v1/jobs/{submit()['id']}/reproduce")
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing-to-reproduce")


def test_lost_inputs_are_named(client, app, attempt, reproduce, copper):
    app.state.blobs.remove(copper.blob_sha256)
    refused = reproduce(attempt, status=409)
    assert refused["code"] == "spec-incomplete"
    assert f"the dataset copper@1 ({copper.blob_sha256[:12]}) is not in the store any more" in refused["message"]


def test_a_lost_base_is_named(client, app, tuned, reproduce):
    attempt, _ = tuned
    app.state.blobs.remove(attempt.claim["base"]["sha256"])
    assert "the base model water@1" in reproduce(attempt, status=409)["message"]


def test_another_version_of_the_library_is_refused_unless_allowed(client, attempt, reproduce, worker):
    here = version("deepmd-kit")
    attempt.environment({"libraries": {"deepmd-kit": "3.0.1"}})
    refused = reproduce(attempt, status=409)
    assert refused["code"] == "other-version"
    assert f"ran with deepmd-kit 3.0.1, and this server has {here}" in refused["message"]
    assert "--allow-other-versions" in refused["hint"]
    job = reproduce(attempt, {"allow_other_versions": True})
    assert job["digest"] != show(client, attempt.claim["job_id"])["digest"], "it is not the same training"
    assert job["digest"] == reproduce(attempt, {"allow_other_versions": True})["digest"]
    worker.claim(job["id"]).environment({"libraries": {"deepmd-kit": here}})
    found = client.get(f"/api/v1/jobs/{attempt.claim['job_id']}/compare/{job['id']}").json()
    assert found["spec"] == [{"pointer": "/library", "left": "3.0.1", "right": here, "only": None}]


def test_the_same_version_is_the_same_training(client, attempt, reproduce):
    attempt.environment({"libraries": {"deepmd-kit": version("deepmd-kit")}})
    assert reproduce(attempt)["digest"] == show(client, attempt.claim["job_id"])["digest"]


@pytest.mark.parametrize("environment", [{}, {"libraries": None}, {"libraries": {"deepmd-kit": 3}}, {"libraries": []}])
def test_an_environment_that_tells_no_version_forbids_nothing(attempt, reproduce, environment):
    attempt.environment(environment)
    reproduce(attempt)


def test_what_was_sent_wrongly_is_refused(client, attempt, reproduce):
    assert client.post("/api/v1/jobs/999/reproduce").status_code == 404
    assert reproduce(attempt, {"nam": "x"}, status=422)["pointer"] == "/nam"
    assert reproduce(attempt, {"name": ""}, status=422)["pointer"] == "/name"
