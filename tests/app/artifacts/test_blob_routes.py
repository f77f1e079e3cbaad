import hashlib
import os
import tempfile

import pytest

from app.tables import Blob

DATA = b"weights" * 10_000
SHA256 = hashlib.sha256(DATA).hexdigest()
URL = f"/api/v1/worker/blobs/{SHA256}"


@pytest.fixture
def attempt(worker, submit):
    return worker.claim(submit()["id"])


def scratch(app) -> list[str]:
    return [path.name for path in app.state.blobs.scratch.iterdir()]


def test_a_blob_is_uploaded_once(app, attempt):
    assert attempt.send("HEAD", URL).status_code == 404
    assert attempt.send("PUT", URL, content=DATA).status_code == 201
    assert attempt.send("PUT", URL, content=DATA).status_code == 200
    head = attempt.send("HEAD", URL)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(DATA)))
    with app.state.sessions() as session:
        assert session.get_one(Blob, SHA256).md5 == hashlib.md5(DATA).hexdigest()
    assert scratch(app) == []


def test_other_bytes_than_announced_are_refused(app, attempt):
    answer = attempt.send("PUT", URL, content=DATA + b"!")
    assert answer.status_code == 422
    assert answer.json()["code"] == "digest-mismatch"
    assert attempt.send("HEAD", URL).status_code == 404
    assert scratch(app) == []


@pytest.mark.parametrize("announced", [True, False])
def test_an_upload_over_the_limit_is_refused(app, settings, attempt, announced):
    settings.max_upload_bytes = len(DATA) - 1
    content = DATA if announced else iter([DATA[:100], DATA[100:]])
    answer = attempt.send("PUT", URL, content=content)
    assert answer.status_code == 413
    assert answer.json()["code"] == "too-large"
    assert str(len(DATA) - 1) in answer.json()["message"]
    assert scratch(app) == []


def test_a_full_disk_says_so(app, attempt, monkeypatch):
    real = tempfile.mkstemp

    def full(**arguments):
        descriptor, name = real(**arguments)
        os.close(descriptor)
        return os.open("/dev/full", os.O_WRONLY), name

    monkeypatch.setattr("app.artifacts.store.tempfile.mkstemp", full)
    answer = attempt.send("PUT", URL, content=DATA)
    assert answer.status_code == 507
    assert answer.json()["code"] == "disk-full"
    assert scratch(app) == []


def test_nothing_is_received_from_strangers(app, anonymous, client, attempt):
    for headers in ({"Authorization": ""}, {}):  # nobody, and a person
        assert anonymous.put(URL, content=DATA, headers=headers).status_code == 401
    assert attempt.send("HEAD", URL).status_code == 404


def test_an_attempt_reads_its_datasets_artifacts_and_checkpoints_only(attempt, copper, worker, submit):
    assert attempt.send("GET", f"/api/v1/worker/blobs/{copper.blob_sha256}").content == b"a tar of copper"

    attempt.send("PUT", URL, content=DATA)
    answer = attempt.send("GET", URL)
    assert (answer.status_code, answer.json()["code"]) == (403, "blob-not-yours")
    body = {"blob_sha256": SHA256, "size": len(DATA)}
    assert attempt.send("PUT", "/api/v1/worker/artifacts/statistics/abc", json=body).status_code == 200
    assert attempt.send("GET", URL).content == DATA

    attempt.checkpoint(100, b"my weights")
    mine = f"/api/v1/worker/blobs/{hashlib.sha256(b'my weights').hexdigest()}"
    assert attempt.send("GET", mine, headers={"Range": "bytes=3-"}).content == b"weights"
    other = worker.claim(submit()["id"])
    assert other.send("GET", mine).status_code == 403


def test_a_superseded_attempt_opens_nothing(attempt):
    attempt.send("PUT", URL, content=DATA)
    assert attempt.end("completed", 1000).status_code == 200
    answer = attempt.send("PUT", URL, content=DATA)
    assert (answer.status_code, answer.json()["code"]) == (409, "attempt-superseded")


def test_the_first_artifact_under_a_key_stands(attempt):
    url = "/api/v1/worker/artifacts/statistics/0123abcd"
    assert attempt.send("GET", url).status_code == 404
    first, second = (attempt.upload(data) for data in (b"one", b"second"))
    for sent in (first, second):
        body = {"blob_sha256": sent["sha256"], "size": sent["size"], "meta": {"frames": 10}}
        answer = attempt.send("PUT", url, json=body)
        assert answer.json()["blob_sha256"] == first["sha256"]
    assert attempt.send("GET", url).json() == {
        "kind": "statistics",
        "key": "0123abcd",
        "blob_sha256": first["sha256"],
        "size": 3,
        "meta": {"frames": 10},
    }


def test_an_artifact_needs_its_blob_first(attempt):
    url = "/api/v1/worker/artifacts/statistics/0123abcd"
    answer = attempt.send("PUT", url, json={"blob_sha256": "0" * 64, "size": 3})
    assert (answer.status_code, answer.json()["code"]) == (404, "blob-missing")
    sent = attempt.upload(b"one")
    answer = attempt.send("PUT", url, json={"blob_sha256": sent["sha256"], "size": 4})
    assert (answer.status_code, answer.json()["code"]) == (409, "size-mismatch")


def test_a_blob_whose_bytes_are_gone_can_be_uploaded_again(app, attempt):
    attempt.send("PUT", URL, content=DATA)
    app.state.blobs.backend.path(SHA256).unlink()
    assert attempt.send("HEAD", URL).status_code == 404
    assert attempt.send("PUT", URL, content=DATA).status_code == 201
    assert attempt.send("HEAD", URL).status_code == 200


def pieces(size: int):
    """Cut the data into ranges."""
    for first in range(0, len(DATA), size):
        data = DATA[first : first + size]
        yield data, {"Content-Range": f"bytes {first}-{first + len(data) - 1}/{len(DATA)}"}


def test_an_upload_in_pieces_goes_on_where_it_was_interrupted(app, attempt):
    parts = list(pieces(30_000))
    assert attempt.send("HEAD", URL).headers["Upload-Offset"] == "0"
    answer = attempt.send("PUT", URL, content=parts[0][0], headers=parts[0][1])
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (202, "30000")
    again = attempt.send("PUT", URL, content=parts[0][0], headers=parts[0][1])
    assert (again.status_code, again.json()["code"], again.headers["Upload-Offset"]) == (409, "upload-offset", "30000")
    too_early = attempt.send("PUT", URL, content=parts[2][0], headers=parts[2][1])
    assert too_early.status_code == 409
    head = attempt.send("HEAD", URL)
    assert (head.status_code, head.headers["Upload-Offset"]) == (404, "30000")
    assert attempt.send("PUT", URL, content=parts[1][0], headers=parts[1][1]).status_code == 202
    assert attempt.send("PUT", URL, content=parts[2][0], headers=parts[2][1]).status_code == 201
    assert attempt.send("HEAD", URL).status_code == 200
    assert b"".join(app.state.blobs.read(SHA256)) == DATA
    assert scratch(app) == []


def test_pieces_that_make_another_file_are_refused_and_forgotten(app, attempt):
    parts = list(pieces(40_000))
    wrong = b"!" + parts[0][0][1:]
    assert attempt.send("PUT", URL, content=wrong, headers=parts[0][1]).status_code == 202
    answer = attempt.send("PUT", URL, content=parts[1][0], headers=parts[1][1])
    assert (answer.status_code, answer.json()["code"]) == (422, "digest-mismatch")
    assert attempt.send("HEAD", URL).headers["Upload-Offset"] == "0"
    assert scratch(app) == []
    assert not app.state.blobs.intact(SHA256)


def test_what_was_whole_when_the_server_was_killed_is_stored_with_the_next_piece(app, attempt):
    (app.state.blobs.scratch / f"partial-{SHA256}").write_bytes(DATA)
    assert attempt.send("HEAD", URL).headers["Upload-Offset"] == str(len(DATA))
    last = len(DATA) - 1
    header = {"Content-Range": f"bytes {last}-{last}/{len(DATA)}"}
    assert attempt.send("PUT", URL, content=DATA[-1:], headers=header).status_code == 201
    assert b"".join(app.state.blobs.read(SHA256)) == DATA
    assert scratch(app) == []


def test_a_piece_that_does_not_fit_on_the_disk_leaves_those_before_it(app, attempt, monkeypatch):
    parts = list(pieces(40_000))
    assert attempt.send("PUT", URL, content=parts[0][0], headers=parts[0][1]).status_code == 202

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("app.artifacts.partial.shutil.copyfileobj", full)
        answer = attempt.send("PUT", URL, content=parts[1][0], headers=parts[1][1])
    assert (answer.status_code, answer.json()["code"]) == (507, "disk-full")
    assert attempt.send("HEAD", URL).headers["Upload-Offset"] == "40000"
    assert attempt.send("PUT", URL, content=parts[1][0], headers=parts[1][1]).status_code == 201


def test_a_range_that_means_nothing_is_refused(attempt, settings):
    for header in ("bytes 5-4/10", "bytes 0-9/9", "items 0-1/2", "bytes 0-1/*"):
        answer = attempt.send("PUT", URL, content=b"xx", headers={"Content-Range": header})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad-request"), header
    settings.max_upload_bytes = 100
    answer = attempt.send("PUT", URL, content=b"xx", headers={"Content-Range": "bytes 0-1/101"})
    assert answer.status_code == 413
