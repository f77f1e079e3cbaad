import io
import json
import tarfile

import numpy as np
import pytest

from app.engines.registry import ENGINES
from app.errors import Invalid
from app.jobs.uploads import _places, dataset_name, refer
from app.wire.datasets import DatasetRef


def archive(*systems: str) -> bytes:
    """Return a tar of small deepmd/npy systems."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:

        def add(name: str, data: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))

        for number, system in enumerate(systems):
            generator = np.random.default_rng(number)
            add(f"{system}/type.raw", b"0\n0\n")
            add(f"{system}/type_map.raw", b"Cu\n")
            arrays = {
                "coord": generator.uniform(0, 8, (3, 6)),
                "box": np.tile(np.eye(3).ravel() * 8, (3, 1)),
                "energy": generator.normal(size=3),
                "force": generator.normal(size=(3, 6)),
            }
            for name, value in arrays.items():
                file = io.BytesIO()
                np.save(file, value)
                add(f"{system}/set.000/{name}.npy", file.getvalue())
    return sink.getvalue()


def post(client, config, files, **fields):
    sent = [("config", ("input.json", json.dumps(config).encode())), *(("data", file) for file in files)]
    return client.post("/api/v1/jobs", files=sent, data=fields)


def test_one_request_brings_config_and_data(client, config):
    config["training"]["training_data"]["systems"] = ["../data/md-300K/", "./data/md-600K"]
    answer = post(
        client, config, [("water.tar.gz", archive("data/md-300K", "data/md-600K"))], seed="7", name="Both", tags="x"
    )
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert (job["name"], job["seed"], job["tags"], job["datasets"]) == ("Both", 7, ["x"], ["dataset:water@1"])
    named = job["submitted"]["config"]["training"]["training_data"]["systems"]
    assert [name.startswith("dataset:water@1/") for name in named] == [True, True]
    assert [name.rsplit("/", 1)[-1] for name in named] == ["md-300K", "md-600K"]


def test_the_same_upload_under_the_same_key_is_one_job_and_one_dataset(client, config):
    config["training"]["training_data"]["systems"] = ["md"]
    client.headers["Idempotency-Key"] = "k"
    data = archive("md")
    first = post(client, config, [("cu.tgz", data)])
    again = post(client, config, [("cu.tgz", data)])
    assert (first.status_code, again.status_code) == (201, 200)
    other = post(client, config, [("cu.tgz", archive("md", "more"))])
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


def test_a_path_that_was_not_uploaded_is_told_with_what_was(client, config):
    config["training"]["training_data"]["systems"] = ["/scratch/other"]
    answer = post(client, config, [("cu.tgz", archive("a", "b"))])
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "path-not-uploaded")
    assert problem["pointer"] == "/config/training/training_data/systems/0"
    assert "dataset:cu@1/a" in problem["hint"]


def test_data_that_are_none_are_refused_before_a_job_exists(client, config):
    answer = post(client, config, [("cu.tgz", b"not an archive")])
    assert answer.status_code == 422
    assert client.get("/api/v1/jobs").json()["items"] == []


def test_a_wrong_config_in_a_form_has_its_line(client):
    answer = client.post("/api/v1/jobs", files={"config": ("input.json", b'{\n "model": ,\n}')})
    assert answer.json()["code"] == "invalid-json"
    assert "`config`" in answer.json()["message"]
    assert "line 2, column 11" in answer.json()["message"]


def test_the_whole_submission_may_be_one_field(client, copper, config):
    submission = json.dumps({"config": config, "seed": 5})
    job = client.post("/api/v1/jobs", files={"submission": (None, submission), "priority": (None, "3")}).json()
    assert (job["seed"], job["priority"]) == (5, 3)


def test_an_upload_over_the_limit_is_refused(client, settings, config, monkeypatch):
    monkeypatch.setattr(settings, "max_upload_bytes", 1000)
    config["training"]["training_data"]["systems"] = ["md"]
    assert post(client, config, [("cu.tgz", b"x" * 5000)]).status_code == 413
    head = b'--b\r\nContent-Disposition: form-data; name="data"; filename="cu.tgz"\r\n\r\n'
    unannounced = iter([head, *[b"x" * 500] * 10, b"\r\n--b--\r\n"])
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = client.post("/api/v1/jobs", content=unannounced, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


def test_a_broken_form_is_refused(client):
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = client.post("/api/v1/jobs", content=b"--b\r\nnonsense", headers=headers)
    assert 400 <= answer.status_code < 500
    assert client.post("/api/v1/jobs", content=b"x", headers={"Content-Type": "multipart/form-data"}).status_code == 400


def named(paths, *systems, name="cu"):
    places = _places(DatasetRef(name=name, version=1), systems)
    config = {"training": {"training_data": {"systems": paths}}}
    return refer(ENGINES[0], "train", config, places)["training"]["training_data"]["systems"]


@pytest.mark.parametrize(
    ("path", "systems", "meant"),
    [
        ("../a/b", ["a/b", "c/b"], "dataset:cu@1/a/b"),
        ("/home/me/x/c/b/", ["a/b", "c/b"], "dataset:cu@1/c/b"),
        ("b", ["b", "a/b"], "dataset:cu@1/b"),
        ("./data", ["data/a", "data/b"], "dataset:cu@1"),
        ("runs/cu", ["a", "b"], "dataset:cu@1"),
        ("C:\\data\\a", ["a", "b"], "dataset:cu@1/a"),
        ("dataset:other@2", ["a"], "dataset:other@2"),
    ],
)
def test_a_path_means_the_place_whose_end_it_shares(path, systems, meant):
    assert named([path], *systems) == [meant]


def test_a_path_that_means_two_things_is_refused():
    with pytest.raises(Invalid) as refused:
        named(["b"], "a/b", "c/b")
    assert refused.value.problem.code == "ambiguous-path"
    assert "dataset:cu@1/a/b or dataset:cu@1/c/b" in refused.value.problem.message


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Water.tar.gz", "water"),
        ("my data.zip", "my-data"),
        ("../../etc/passwd", "passwd"),
        ("….tgz", "upload"),
        ("a.b.extxyz", "a.b"),
    ],
)
def test_a_dataset_is_named_after_its_file(file, name):
    assert dataset_name(file) == name
