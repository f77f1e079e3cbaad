"""Jobs of kind model-devi: what their models stand for, what is refused, how their files come and are read."""

import io
import zipfile

import pytest
from sqlalchemy import func, select

from app.db import reading
from app.tables import Blob, Job
from tests.app.jobs.conftest import inspect, register

MODELS = ("one", "two")


@pytest.fixture
def post(client, copper):
    """Submit a deviation and return the answer."""

    def post(*models, config=None, **options):
        config = {"models": list(models), "data": ["dataset:copper"], **(config or {})}
        return client.post("/api/v1/jobs", json={"kind": "model-devi", "config": config, **options})

    return post


@pytest.fixture
def deviate(post):
    """Submit a deviation that is accepted and return the job."""

    def deviate(*models, **options):
        answer = post(*models, **options)
        assert answer.status_code == 201, answer.text
        return answer.json()

    return deviate


@pytest.fixture
def bases(app, worker):
    """Two base models that are ready."""
    for name in MODELS:
        register(app, name, f"weights of {name}".encode(), engine="deepmd")
    inspect(app, worker, engine="deepmd")


@pytest.fixture
def running(deviate, bases, worker):
    """A deviation of these two in its first attempt."""
    return worker.claim(deviate(*MODELS)["id"])


def problems(answer):
    assert answer.status_code == 422, answer.text
    return {problem["pointer"]: problem for problem in answer.json()["problems"]}


# --- references -------------------------------------------------------------------------------------------------------


def test_groups_and_checkpoints_stand_for_files_that_stay(client, app, submit, deviate, post, worker):
    group_id = submit(replicas=2, checkpoints={"keep_last": 2})["group"]
    with reading(app.state.sessions) as session:
        jobs = list(session.scalars(select(Job.id).where(Job.group_id == group_id).order_by(Job.replica)))
    assert "no checkpoint" in problems(post(f"group:{group_id}"))["/config/models/0"]["message"]
    first, second = (worker.claim(job_id) for job_id in jobs)
    for attempt in (first, second):
        attempt.checkpoint(200, data=f"replica {attempt.claim['job_id']}, step 200".encode())
    old = deviate(f"group:{group_id}")
    names = [f"job:{job_id}@200" for job_id in jobs]
    assert (old["group"], old["replica"], old["resolved"]["models"]) == (group_id, None, names)
    assert old["origins"]["/models"]["note"] == f"group:{group_id} stands for 2 models"
    for step in (400, 600):
        first.checkpoint(step, data=f"first, step {step}".encode())
    listed = client.get(f"/api/v1/jobs/{jobs[0]}/checkpoints").json()
    assert [row["step"] for row in listed] == [600, 400, 200], "two newest, and what a job works on"
    assert listed[-1]["kept"] == [f"model of job {old['id']}"]
    claim = worker.claim(old["id"])
    assert (claim.claim["kind"], claim.claim["base"], claim.claim["resume_from"]) == ("model-devi", None, None)
    for grant, model in zip(claim.claim["models"], old["models"], strict=True):
        assert (grant["name"], grant["sha256"]) == (model["name"], model["sha256"])
        assert grant["file_name"].endswith(".pt")
        assert claim.send("GET", f"/api/v1/worker/blobs/{grant['sha256']}").status_code == 200
    uneven = deviate(f"group:{group_id}")
    assert [notice["code"] for notice in uneven["warnings"]] == ["unequal-steps"]
    mixed = deviate(f"job:{jobs[0]}", f"job:{jobs[1]}@200")
    assert (mixed["group"], mixed["resolved"]["models"]) == (None, [f"job:{jobs[0]}@600", f"job:{jobs[1]}@200"])
    wrong = (f"group:{group_id}@400", "group:999", f"job:{jobs[0]}@7", "job:999", "water", "../x.pt")
    words = (f"group {group_id}: Job {jobs[1]} has no checkpoint of step 400", "no group 999")
    words += ("no checkpoint of step 7", "no job 999", "no base model water", "'../x.pt' names neither")
    found = problems(post(*wrong))
    for index, word in enumerate(words):
        assert word in found[f"/config/models/{index}"]["message"]


def test_a_deviation_of_base_models_is_complete(client, bases, deviate, post):
    job = deviate(*MODELS)
    assert [model["name"] for model in job["models"]] == ["one@1", "two@1"]
    assert client.get(f"/api/v1/jobs/{job['id']}/provenance.json").json()["models"] == job["models"]
    assert (job["name"], job["seed"], job["seeds"], job["plan"], job["warnings"]) == (
        "one@1+two@1 on copper",
        0,
        {},
        None,
        [],
    )
    assert (job["progress"]["total_steps"], job["progress"]["unit"]) == (10, "frame")
    assert "queued: 10 frames" in client.get(f"/api/v1/jobs/{job['id']}/events").json()[0]["message"]
    assert deviate(*MODELS)["digest"] == job["digest"] != deviate(*MODELS, config={"atomic": True})["digest"]
    config = {"models": list(MODELS), "data": ["dataset:copper"], "stride": 3}
    checked = client.post("/api/v1/configs/resolve", json={"kind": "model-devi", "config": config}).json()
    assert (checked["hints"]["steps"], checked["hints"]["frames"], checked["total_steps"]) == (4, 10, 4)
    found = problems(post("one", config={"data": ["dataset:silver", "/data/x", "dataset:copper/ice"]}))
    codes = ["unknown-dataset", "data-not-a-dataset", "unknown-system"]
    assert [found[f"/config/data/{index}"]["code"] for index in range(3)] == codes
    assert found["/config/models"]["code"] == "too-few-models"


def test_what_only_trainings_have_is_refused(client, bases, post):
    options = {"start": {"mode": "init", "base": "one"}, "checkpoints": {"every_steps": 5}, "on_existing": "resume"}
    found = problems(post(*MODELS, **options))
    assert {at: problem["code"] for at, problem in found.items()} == {
        f"/{key}": "only-for-trainings" for key in options
    }
    assert "/replicas" in problems(post(*MODELS, replicas=2))
    assert problems(post(*MODELS, seed=3))["/seed"]["code"] == "no-seed"
    wrong = problems(post(*MODELS, config={"relative": -1, "stride": 0, "steps": 5, "data": []}))
    assert set(wrong) == {"/config/relative", "/config/stride", "/config/steps", "/config/data"}


def test_an_engine_says_which_kinds_it_has(client, stub):
    answer = client.post("/api/v1/jobs", json={"kind": "model-devi", "engine": "stub", "config": {}})
    assert problems(answer)["/kind"]["hint"] == "There is: train."
    unknown = problems(client.post("/api/v1/jobs", json={"kind": "anneal", "config": {}}))["/kind"]
    assert (unknown["code"], "model-devi" in unknown["hint"]) == ("unknown-kind", True)
    assert problems(client.post("/api/v1/jobs", json={"kind": "Train!", "config": {}}))["/kind"]
    schema = client.get("/api/v1/engines/deepmd/schema", params={"kind": "model-devi"}).json()
    assert set(schema["required"]) == {"models", "data"}
    tasks = {task["kind"]: task for task in client.get("/api/v1/engines").json()[0]["tasks"]}
    task = tasks["model-devi"]
    assert (task["title"], task["unit"], task["headline"][0]) == ("Model deviation", "frame", "devi/max_f")


# --- running ----------------------------------------------------------------------------------------------------------


def put(attempt, content=b"# md\n", **changes):
    about = attempt.upload(content) | {"name": "model_devi.out", "media_type": "text/plain", **changes}
    return attempt.send("POST", f"{attempt.path}/files", json=about)


def test_it_runs_like_a_training_and_leaves_its_file(client, app, running):
    job_id = running.claim["job_id"]
    running.metrics(0, list(range(1, 11)), **{"devi/max_f": [0.1 * step for step in range(1, 11)]})
    assert put(running, b"half").status_code == 204
    content = b"# md\n" + b"0 1.0\n" * 100
    assert [put(running, content).status_code for _ in range(2)] == [204, 204], "the same again changes nothing"
    assert put(running, b"half", size=99).json()["code"] == "file-differs"
    assert running.end("completed", 10).json() == {"job_state": "completed"}
    job = client.get(f"/api/v1/jobs/{job_id}").json()
    assert [(file["name"], file["size"]) for file in job["files"]] == [("model_devi.out", len(content))]
    assert client.get(f"/api/v1/jobs/{job_id}/files").json() == job["files"]
    events = client.get(f"/api/v1/jobs/{job_id}/events").json()
    assert [event["kind"] for event in events].count("file") == 2
    assert events[-1]["message"] == "completed after 10 frames"
    address = f"/api/v1/jobs/{job_id}/files/model_devi.out"
    whole, part = client.get(address), client.get(address, headers={"Range": "bytes=2-3"})
    assert (whole.content, part.content, part.status_code) == (content, b"md", 206)
    assert whole.headers["Content-Type"].startswith("text/plain")
    assert client.get(address, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    missing = client.get(f"/api/v1/jobs/{job_id}/files/other.out")
    assert (missing.status_code, "model_devi.out" in missing.json()["hint"]) == (404, True)
    with zipfile.ZipFile(io.BytesIO(client.get(f"/api/v1/jobs/{job_id}/bundle").content)) as archive:
        names = {name.split("/", 1)[1] for name in archive.namelist()}
    assert "model_devi.out" in names
    assert "lcurve.out" not in names
    refused = client.get(f"/api/v1/jobs/{job_id}/metrics", params={"format": "lcurve.out"})
    assert (refused.status_code, refused.json()["code"]) == (409, "no-learning-curve")
    again = client.post(f"/api/v1/jobs/{job_id}/reproduce", json={}).json()
    assert (again["models"], again["resolved"], again["files"]) == (job["models"], job["resolved"], [])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../x"),
        ("name", ".."),
        ("media_type", "text/plain\r\nSet-Cookie: a=b"),
        ("media_type", "text"),
        ("sha256", "..//etc"),
        ("sha256", "a" * 300),
        ("md5", "0"),
    ],
)
def test_what_is_said_of_a_file_leads_nowhere_else(running, key, value):
    answer = put(running, **{key: value})
    assert (answer.status_code, answer.json()["pointer"]) == (422, f"/{key}")


def test_a_file_that_is_replaced_leaves_no_bytes(client, app, running):
    put(running, b"first")
    put(running, b"second")
    assert client.get(f"/api/v1/jobs/{running.claim['job_id']}/files/model_devi.out").content == b"second"
    with reading(app.state.sessions) as session:
        assert session.scalar(select(func.count()).select_from(Blob).where(Blob.size == len(b"first"))) == 0


def test_nothing_of_a_superseded_attempt_appears(client, worker, running):
    job_id = running.claim["job_id"]
    running.metrics(0, list(range(1, 9)), **{"devi/max_f": [1.0] * 8})
    about = running.upload(b"of the first") | {"name": "model_devi.out", "media_type": "text/plain"}
    running.end("interrupted", 8)
    second = worker.claim(job_id, attempt=2)
    late = running.send("POST", f"{running.path}/files", json=about)
    assert (late.status_code, late.json()["code"]) == (409, "attempt-superseded")
    second.metrics(0, [1, 2], **{"devi/max_f": [2.0, 2.0]})
    found = client.get(f"/api/v1/jobs/{job_id}/metrics").json()
    assert (found["steps"]["devi/max_f"], found["values"]["devi/max_f"]) == ([1, 2], [2.0, 2.0])
    assert client.get(f"/api/v1/jobs/{job_id}").json()["files"] == []
