import os
import shutil
import time

import pytest

from tests.app.jobs.test_uploads import archive
from tests.conftest import sha256

DATA = archive("md")
UPLOAD = f"{sha256(DATA)}-{len(DATA)}"
URL = f"/api/v1/uploads/{UPLOAD}"
HALF = len(DATA) // 2


@pytest.fixture
def database_url(tmp_path, sqlite_template):
    """One database is enough: uploads in pieces have no rows."""
    shutil.copy(sqlite_template, tmp_path / "cairn.db")
    return f"sqlite:///{tmp_path / 'cairn.db'}"


def put(client, first: int, last: int, data: bytes = DATA, url: str = URL):
    """Send a piece of some data, its last byte included."""
    header = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
    return client.put(url, content=data[first : last + 1], headers=header)


def scratch(app) -> list[str]:
    return [path.name for path in app.state.blobs.scratch.iterdir()]


@pytest.fixture
def whole(client):
    """The upload, all of it there."""
    put(client, 0, len(DATA) - 1)


def test_an_upload_goes_on_where_it_was_and_becomes_a_dataset(app, client):
    assert client.get(URL).json() == {"upload": UPLOAD, "received": 0, "size": len(DATA)}
    assert put(client, 0, HALF).json()["received"] == HALF + 1
    again = put(client, 0, HALF)
    assert (again.status_code, again.json()["code"]) == (409, "upload-offset")
    assert again.headers["Upload-Offset"] == str(HALF + 1)
    assert client.get(URL).json()["received"] == HALF + 1
    assert put(client, HALF + 1, len(DATA) - 1).json()["received"] == len(DATA)

    made = client.post("/api/v1/datasets", params={"name": "cu", "filename": "cu.tgz", "upload": UPLOAD})
    assert (made.status_code, made.json()["summary"]["frames"]) == (201, 3)
    assert scratch(app) == []
    same = client.post("/api/v1/datasets", params={"name": "cu", "filename": "cu.tgz"}, content=DATA)
    assert (same.status_code, same.json()["version"]) == (200, 1)


def test_an_upload_becomes_a_base_model(app, client, whole):
    made = client.post("/api/v1/models", params={"name": "water", "filename": "water.pt", "upload": UPLOAD})
    assert (made.status_code, made.json()["sha256"], made.json()["file_name"]) == (201, sha256(DATA), "water.pt")
    assert client.get("/api/v1/models/water@1/file").content == DATA
    assert scratch(app) == []


def test_an_upload_brings_the_data_of_a_job(app, client, config, whole):
    config["training"]["training_data"]["systems"] = ["../data/md"]
    body = {"config": config, "uploads": [{"upload": UPLOAD, "filename": "cu.tgz"}]}
    first = client.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
    assert (first.status_code, first.json()["datasets"]) == (201, ["dataset:cu@1"])
    assert "uploads" not in first.json()["submitted"]  # it is there, and would be in the way of a clone
    repeated = client.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
    assert (repeated.status_code, repeated.json()["id"]) == (200, first.json()["id"])
    assert scratch(app) == []


def test_what_is_not_whole_becomes_nothing(client):
    put(client, 0, HALF)
    answer = client.post("/api/v1/datasets", params={"name": "cu", "filename": "cu.tgz", "upload": UPLOAD})
    assert (answer.status_code, answer.json()["code"]) == (409, "upload-incomplete")
    assert str(HALF + 1) in answer.json()["message"]
    assert client.get(URL).json()["received"] == HALF + 1


def test_bytes_that_are_not_what_they_were_to_be_are_forgotten(app, client):
    put(client, 0, len(DATA) - 1, b"!" + DATA[1:])
    answer = client.post("/api/v1/models", params={"name": "water", "upload": UPLOAD})
    assert (answer.status_code, answer.json()["code"]) == (422, "digest-mismatch")
    assert scratch(app) == []


def test_an_upload_of_which_nothing_could_be_made_need_not_be_sent_again(client):
    notes = b"nothing that is a dataset"
    url = f"/api/v1/uploads/{sha256(notes)}-{len(notes)}"
    put(client, 0, len(notes) - 1, notes, url)
    answer = client.post("/api/v1/datasets", params={"name": "cu", "filename": "n.txt", "upload": url.split("/")[-1]})
    assert answer.status_code == 422
    assert client.get(url).json()["received"] == len(notes)


def test_gc_removes_what_was_abandoned_for_a_day(app, client):
    put(client, 0, HALF)
    assert client.post("/api/v1/maintenance/gc", json={}).json()["leftovers"]["count"] == 0
    old = time.time() - 25 * 3600
    os.utime(app.state.blobs.scratch / f"waiting-{UPLOAD}", (old, old))
    assert client.post("/api/v1/maintenance/gc", json={}).json()["leftovers"]["size"] == HALF + 1
    assert client.get(URL).json()["received"] == 0


def test_only_what_can_be_an_upload_is_one(client, settings, config):
    for name in ("x", f"{sha256(DATA)}-0", f"{sha256(DATA)}-1\n", f"../{UPLOAD}"):
        assert client.post("/api/v1/models", params={"name": "water", "upload": name}).json()["code"] == "bad-upload"
    assert client.get("/api/v1/uploads/x-1").status_code == 404
    assert put(client, 0, 9, b"of another size").json()["code"] == "digest-mismatch"
    answer = client.post("/api/v1/jobs", json={"config": config, "uploads": [{"upload": "x", "filename": "x"}]})
    assert (answer.status_code, answer.json()["pointer"]) == (422, "/uploads/0/upload")
    settings.max_upload_bytes = len(DATA) - 1
    assert put(client, 0, HALF).status_code == 413


def test_strangers_upload_nothing(client, anonymous):
    assert put(client, 0, HALF).status_code == 200
    for call in (anonymous.get, anonymous.put):
        assert call(URL, headers={"Authorization": "", "Content-Range": "bytes 0-0/1"}).status_code == 401
