"""Jobs of kind model-devi: what their models stand for, what is refused, how their files come and are read."""

import io
import json
import zipfile

import pytest
from sqlalchemy import select

from app.db import reading, transaction
from app.tables import Blob, Dataset, Group, Job, JobModel
from tests.app.jobs.conftest import inspect, register

DATA = ["dataset:copper"]


@pytest.fixture
def post(client, copper):
    """Submit a deviation and return the answer."""

    def post(*models, data=DATA, config=None, **options):
        config = {"models": list(models), "data": data, **(config or {})}
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
def trained(submit, worker):
    """Train with the small config, with checkpoints of these steps; return the job's number."""

    def trained(*steps, **options):
        job_id = submit(on_existing="new", **options)["id"]
        attempt = worker.claim(job_id)
        for step in steps:
            attempt.checkpoint(step, data=f"job {job_id}, step {step}".encode())
        attempt.end("completed", 1000)
        return job_id

    return trained


@pytest.fixture
def group(app, submit, worker):
    """Three replicas with checkpoints of steps 200 and 400; return the group and its jobs."""
    first = submit(replicas=3)
    jobs = replicas_of(app, first["group"])
    for job_id in jobs:
        attempt = worker.claim(job_id)
        for step in (200, 400):
            attempt.checkpoint(step, data=f"replica {job_id}, step {step}".encode())
        attempt.end("completed", 1000)
    return first["group"], jobs


def replicas_of(app, group_id):
    with reading(app.state.sessions) as session:
        return list(session.scalars(select(Job.id).where(Job.group_id == group_id).order_by(Job.replica)))


def problems(answer):
    assert answer.status_code == 422, answer.text
    return {problem["pointer"]: problem for problem in answer.json()["problems"]}


# --- references -------------------------------------------------------------------------------------------------------


def test_a_group_stands_for_the_newest_checkpoint_of_every_replica(deviate, worker, group):
    group_id, jobs = group
    job = deviate(f"group:{group_id}")
    names = [f"job:{job_id}@400" for job_id in jobs]
    assert (job["kind"], job["group"], job["replica"]) == ("model-devi", group_id, None)
    assert job["resolved"] == {
        "models": names, "data": ["dataset:copper@1/md"], "relative": None, "atomic": False, "frequency": 1,
        "stride": 1, "limit": None,
    }  # fmt: skip
    assert job["origins"]["/models"]["origin"] == job["origins"]["/data"]["origin"] == "derived"
    assert job["origins"]["/stride"]["origin"] == "default"
    assert [model["name"] for model in job["models"]] == names
    assert (job["seed"], job["seeds"], job["plan"], job["warnings"]) == (0, {}, None, [])
    assert (job["progress"]["total_steps"], job["progress"]["unit"]) == (10, "frame")
    claim = worker.claim(job["id"]).claim
    assert (claim["kind"], claim["base"], claim["resume_from"]) == ("model-devi", None, None)
    assert [grant["sha256"] for grant in claim["models"]] == [model["sha256"] for model in job["models"]]
    assert claim["models"][0]["file_name"].endswith(".pt")


def test_a_step_of_a_group_and_single_checkpoints(deviate, group):
    group_id, jobs = group
    at_200 = deviate(f"group:{group_id}@200")
    assert [model["name"] for model in at_200["models"]] == [f"job:{job_id}@200" for job_id in jobs]
    pair = deviate(f"job:{jobs[0]}@200", f"job:{jobs[1]}")
    assert [model["name"] for model in pair["models"]] == [f"job:{jobs[0]}@200", f"job:{jobs[1]}@400"]
    assert pair["group"] is None
    assert pair["digest"] != at_200["digest"]


def test_base_models_by_name(client, app, deviate, worker):
    for name, content in (("one", b"weights of one"), ("two", b"weights of two")):
        register(app, name, content, engine="deepmd")
    inspect_deepmd(app, worker)
    job = deviate("one", "two@1")
    assert [model["name"] for model in job["models"]] == ["one@1", "two@1"]
    assert job["name"] == "copper"
    assert client.get(f"/api/v1/jobs/{job['id']}/provenance.json").json()["models"] == job["models"]


def inspect_deepmd(app, worker, **changes):
    inspect(app, worker, engine="deepmd", **changes)


def test_replicas_at_unequal_steps_are_told(app, submit, worker, deviate):
    first = submit(replicas=2)
    for number, job_id in enumerate(replicas_of(app, first["group"])):
        attempt = worker.claim(job_id)
        attempt.checkpoint(200 + 200 * number, data=f"weights {number}".encode())
    job = deviate(f"group:{first['group']}")
    assert [notice["code"] for notice in job["warnings"]] == ["unequal-steps"]


def test_what_a_reference_does_not_stand_for(post, submit, trained, group):
    group_id, jobs = group
    never = submit(on_existing="new", seed=5)["id"]
    found = problems(
        post(f"group:{group_id}@300", "group:999", f"job:{never}", f"job:{jobs[0]}@7", "water", "../x.pt", "job:999")
    )
    words = [f"group {group_id}: Job {jobs[-1]} has no checkpoint of step 300", "no group 999", f"Job {never} has no checkpoint"]
    words += ["no checkpoint of step 7", "no base model water", "'../x.pt' names neither", "no job 999"]
    for index, word in enumerate(words):
        assert word in found[f"/config/models/{index}"]["message"]


def test_models_that_do_not_go_together(app, post, trained, worker):
    one = trained(200)
    assert problems(post(f"job:{one}"))["/config/models"]["code"] == "too-few-models"
    assert problems(post(f"job:{one}", f"job:{one}@200"))["/config/models/1"]["code"] == "same-model-twice"
    branch = {"name": "", "type_map": ["Au", "Cu"], "model": {"type_map": ["Au", "Cu"]}, "parameters": 1}
    register(app, "gold", b"gold", engine="deepmd")
    inspect_deepmd(app, worker, branches=[branch])
    register(app, "tasks", b"tasks", engine="deepmd")
    inspect_deepmd(app, worker, branches=[branch | {"name": "a"}, branch | {"name": "b"}])
    register(app, "dipole", b"dipole", engine="deepmd")
    inspect_deepmd(app, worker, branches=[branch | {"model": {"fitting_net": {"type": "dipole"}}}])
    found = problems(post(f"job:{one}", "gold", "tasks", "dipole"))
    codes = [found[f"/config/models/{index}"]["code"] for index in (1, 2, 3)]
    assert codes == ["type-maps-differ", "multi-task-model", "not-an-energy-model"]
    assert '["Au", "Cu"]' in found["/config/models/1"]["message"]


def test_data_that_the_models_do_not_know(app, post, trained):
    with transaction(app.state.sessions) as session:
        copper = session.scalar(select(Dataset))
        system = copper.summary["systems"][0] | {"name": "au", "elements": {"Au": 4}, "type_map": ["Au"]}
        values = {"engine": "deepmd", "digest": "a" * 64, "blob_sha256": copper.blob_sha256, "size": 1, "source": "t"}
        session.add(Dataset(name="gold", version=1, summary={**copper.summary, "systems": [system]}, **values))
    models = [f"job:{trained(200, seed=1)}", f"job:{trained(200, seed=2)}"]
    data = ["dataset:copper@1/md", "dataset:gold@1/au", "dataset:silver", "dataset:copper/liquid", "/data/x"]
    found = problems(post(*models, data=data))
    codes = {pointer: problem["code"] for pointer, problem in found.items()}
    assert codes["/config/data/2"] == "unknown-dataset"
    assert codes["/config/data/3"] == "unknown-system"
    assert codes["/config/data/4"] == "data-not-a-dataset"
    assert problems(post(*models, data=data[:2]))["/config/data/1"]["code"] == "element-not-in-type-map"


def test_what_only_trainings_have_is_refused(post, trained):
    models = [f"job:{trained(200, seed=1)}", f"job:{trained(200, seed=2)}"]
    options = {"start": {"mode": "init", "base": "job:1"}, "checkpoints": {"every_steps": 5}, "on_existing": "reuse"}
    found = problems(post(*models, **options))
    assert {pointer: problem["code"] for pointer, problem in found.items()} == {
        f"/{key}": "only-for-trainings" for key in options
    }
    assert "/replicas" in problems(post(*models, replicas=2))
    assert problems(post(*models, seed=3))["/seed"]["code"] == "no-seed"
    found = problems(post(*models, config={"relative": -1, "stride": 0, "steps": 5}))
    assert set(found) == {"/config/relative", "/config/stride", "/config/steps"}
    assert problems(post(*models, engine="deepmd", config={"models": []}))["/config/models"]


def test_an_engine_without_the_kind_says_so(client, stub):
    answer = client.post("/api/v1/jobs", json={"kind": "model-devi", "engine": "stub", "config": {}})
    assert problems(answer)["/kind"]["hint"] == "There is: train."


# --- what it costs, what is kept --------------------------------------------------------------------------------------


def test_frames_are_counted_by_stride_and_limit(client, post, group):
    config = {"models": [f"group:{group[0]}"], "data": DATA, "stride": 3}
    counts = []
    for limit in (None, 2):
        body = {"kind": "model-devi", "config": {**config, "limit": limit}}
        counts.append(client.post("/api/v1/configs/resolve", json=body).json()["hints"]["steps"])
    assert counts == [4, 2]


def test_models_stay_as_long_as_the_job(client, app, deviate, worker, group):
    group_id, jobs = group
    job = deviate(f"group:{group_id}@200")
    kept = [model["sha256"] for model in job["models"]]
    again = worker_that_goes_on(client, worker, jobs[0])
    with reading(app.state.sessions) as session:
        assert len(session.scalars(select(Blob).where(Blob.sha256.in_(kept))).all()) == len(set(kept))
        assert session.scalars(select(JobModel.ordinal).order_by(JobModel.ordinal)).all() == [0, 1, 2]
    assert again


def worker_that_goes_on(client, worker, job_id):
    """Return whether the job's own list has lost the checkpoint of step 200."""
    listed = client.get(f"/api/v1/jobs/{job_id}/checkpoints").json()
    return {row["step"] for row in listed} == {200, 400}


# --- running ----------------------------------------------------------------------------------------------------------


def put(attempt, content=b"# md\n", name="model_devi.out", **changes):
    about = attempt.upload(content) | {"name": name, "media_type": "text/plain", **changes}
    return attempt.send("POST", f"{attempt.path}/files", json=about)


def test_it_runs_like_a_training_and_leaves_its_file(client, worker, deviate, group):
    job_id = deviate(f"group:{group[0]}")["id"]
    attempt = worker.claim(job_id)
    for grant in attempt.claim["models"]:
        assert attempt.send("GET", f"/api/v1/worker/blobs/{grant['sha256']}").status_code == 200
    attempt.metrics(0, list(range(1, 11)), **{"devi/max_f": [0.1 * step for step in range(1, 11)]})
    content = b"# md\n" + b"0 1.0\n" * 100
    assert put(attempt, content).status_code == 204
    assert put(attempt, content).status_code == 204, "the same again changes nothing"
    assert attempt.end("completed", 10).json() == {"job_state": "completed"}
    job = client.get(f"/api/v1/jobs/{job_id}").json()
    assert [file["name"] for file in job["files"]] == ["model_devi.out"]
    events = client.get(f"/api/v1/jobs/{job_id}/events").json()
    assert [event["message"] for event in events if event["kind"] == "file"] == ["model_devi.out, 0.0 MB"]
    assert "10 frames" in events[0]["message"]
    assert client.get(f"/api/v1/jobs/{job_id}/files").json() == job["files"]
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


def test_a_file_sent_again_replaces_the_first_and_its_bytes_go(client, app, worker, deviate, group):
    job_id = deviate(f"group:{group[0]}")["id"]
    attempt = worker.claim(job_id)
    put(attempt, b"half")
    put(attempt, b"whole")
    assert client.get(f"/api/v1/jobs/{job_id}/files/model_devi.out").content == b"whole"
    with reading(app.state.sessions) as session:
        assert session.scalars(select(Blob).where(Blob.size == len(b"half"))).all() == []


def test_files_that_are_not_what_they_are_said_to_be(worker, deviate, group):
    attempt = worker.claim(deviate(f"group:{group[0]}")["id"])
    assert put(attempt, size=99).json()["code"] == "file-differs"
    assert put(attempt, sha256="0" * 64).status_code in (404, 409)
    assert put(attempt, name="../x").status_code == 422


def test_nothing_of_a_superseded_attempt_appears(client, worker, deviate, group):
    job_id = deviate(f"group:{group[0]}")["id"]
    first = worker.claim(job_id)
    first.metrics(0, list(range(1, 9)), **{"devi/max_f": [1.0] * 8})
    about = first.upload(b"of the first") | {"name": "model_devi.out", "media_type": "text/plain"}
    first.end("interrupted", 8)
    second = worker.claim(job_id, attempt=2)
    late = first.send("POST", f"{first.path}/files", json=about)
    assert (late.status_code, late.json()["code"]) == (409, "attempt-superseded")
    second.metrics(0, [1, 2], **{"devi/max_f": [2.0, 2.0]})
    found = client.get(f"/api/v1/jobs/{job_id}/metrics").json()
    assert (found["steps"]["devi/max_f"], found["values"]["devi/max_f"]) == ([1, 2], [2.0, 2.0])
    assert client.get(f"/api/v1/jobs/{job_id}").json()["files"] == []


def test_a_deviation_is_reproduced_on_the_same_files(client, worker, deviate, group):
    job = deviate(f"group:{group[0]}")
    attempt = worker.claim(job["id"])
    attempt.metrics(0, list(range(1, 11)), **{"devi/max_f": [1.0] * 10})
    attempt.end("completed", 10)
    answer = client.post(f"/api/v1/jobs/{job['id']}/reproduce", json={})
    assert answer.status_code == 201, answer.text
    assert answer.json()["models"] == job["models"]
    assert answer.json()["resolved"] == job["resolved"]


def test_the_schema_of_the_kind(client):
    schema = client.get("/api/v1/engines/deepmd/schema", params={"kind": "model-devi"}).json()
    assert set(schema["required"]) == {"models", "data"}
    assert client.get("/api/v1/engines/deepmd/schema", params={"kind": "knit"}).status_code == 422
    assert "frame" in json.dumps(client.get("/api/v1/engines").json())


def test_groups_are_named_in_the_table(app, group):
    with reading(app.state.sessions) as session:
        assert session.get(Group, group[0]).size == 3
