import io
import json
import zipfile

import pytest

from tests.app.jobs.conftest import inspect, list_tensors, register


@pytest.fixture
def tuned(client, app, stub_worker, hurried):
    """A job fine-tuned from `water`, with a plan."""
    worker = stub_worker()
    base = register(app)
    inspect(app, worker)
    submit = {"engine": "stub", "config": {"cutoff": 9.0}, "seed": 5, "start": {"mode": "finetune", "base": "water"}}
    job_id = client.post("/api/v1/jobs", json=submit).json()["id"]
    list_tensors(app, worker)
    return base, client.get(f"/api/v1/jobs/{job_id}").json()


def test_provenance_is_a_download_with_everything_a_job_came_from(client, tuned):
    base, job = tuned
    answer = client.get(f"/api/v1/jobs/{job['id']}/provenance.json")
    assert answer.status_code == 200
    assert f"job-{job['id']}-provenance.json" in answer.headers["Content-Disposition"]
    found = answer.json()
    assert (found["base"], found["base_sha256"]) == ("water@1", base.blob_sha256)
    assert (found["seed"], found["seeds"], found["digest"]) == (5, {"stub": 5}, job["digest"])
    assert found["config"] == job["resolved"]
    for key in ("origins", "plan", "inheritance", "start"):
        assert found[key] == job[key], key
    assert any("inherited from water@1" in line for line in found["inheritance"])


def test_provenance_names_datasets_by_content(client, submit, copper):
    job = submit()
    found = client.get(f"/api/v1/jobs/{job['id']}/provenance.json").json()
    assert found["datasets"] == {"dataset:copper@1": copper.digest}
    assert (found["base"], found["plan"], found["start"]["mode"]) == (None, None, "scratch")


def test_the_bundle_holds_the_same_provenance(client, tuned):
    _, job = tuned
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"/api/v1/jobs/{job['id']}/bundle").content))
    (name,) = (name for name in archive.namelist() if name.endswith("/provenance.json"))
    assert json.loads(archive.read(name)) == client.get(f"/api/v1/jobs/{job['id']}/provenance.json").json()


def test_provenance_of_no_job_is_not_found(client):
    assert client.get("/api/v1/jobs/9/provenance.json").status_code == 404


@pytest.fixture
def diff(client):
    def diff(left, right):
        answer = client.get(f"/api/v1/jobs/{left}/diff/{right}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    return diff


def stub_job(client, config, **options):
    return client.post("/api/v1/jobs", json={"engine": "stub", "config": config, **options}).json()["id"]


def test_jobs_differ_by_value_and_by_origin(client, stub, diff):
    left = stub_job(client, {"width": 4, "depth": 1}, seed=1)
    right = stub_job(client, {"width": 4.0, "cutoff": 7.0, "depth": True}, seed=1)
    found = diff(left, right)
    assert (found["left"], found["right"], found["same_training"]) == (left, right, False)
    by_value = {one["pointer"]: (one["left"], one["right"]) for one in found["values"]}
    assert by_value == {"/depth": (1, True), "/cutoff": (6.0, 7.0)}, "1 is not true, 4 is 4.0"
    cutoff = next(one for one in found["values"] if one["pointer"] == "/cutoff")
    assert (cutoff["left_origin"]["origin"], cutoff["right_origin"]["origin"]) == ("default", "explicit")
    assert found["origins"] == []


def test_equal_values_of_another_origin_are_listed_apart(client, stub, diff):
    left, right = (stub_job(client, config, seed=1, on_existing="new") for config in ({"cutoff": 6.0}, {}))
    found = diff(left, right)
    assert (found["same_training"], found["values"]) == (True, [])
    (one,) = found["origins"]
    assert (one["pointer"], one["left_origin"]["origin"], one["right_origin"]["origin"]) == (
        "/cutoff", "explicit", "default",
    )  # fmt: skip


def test_values_from_different_bases_differ_in_origin(client, app, tuned, stub_worker, diff):
    _, first = tuned
    register(app, "ice", b"weights of ice")
    inspect(app, stub_worker())
    submit = {"engine": "stub", "config": {"cutoff": 9.0}, "start": {"mode": "finetune", "base": "ice"}}
    second = client.post("/api/v1/jobs", json=submit).json()
    found = diff(first["id"], second["id"])
    assert found["values"] == []
    assert {one["pointer"] for one in found["origins"]} == {"/width"}


def test_leaves_that_only_one_job_has_are_listed(client, submit, config, diff):
    left = submit()["id"]
    config["training"]["validation_data"] = {"systems": ["dataset:copper/md"]}
    right = submit()["id"]
    only = {one["pointer"]: one for one in diff(left, right)["values"] if "validation_data/" in one["pointer"]}
    assert only
    assert all(one["left"] is None and one["left_origin"] is None and one["right_origin"] for one in only.values())
    mirrored = diff(right, left)
    assert {one["pointer"] for one in mirrored["values"]} >= set(only)


def test_a_diff_with_no_job_is_not_found(client, submit):
    assert client.get(f"/api/v1/jobs/{submit()['id']}/diff/99").status_code == 404
