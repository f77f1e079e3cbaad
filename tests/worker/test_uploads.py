"""Checkpoints and artifacts on their way to the server."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.wire.submission import CheckpointPolicy
from tests.worker.wire import Answer, Request, Wire, problem, serving
from worker import client
from worker.cache import Cache
from worker.rundir import Manifest, RunDir, write_json
from worker.throttle import Throttle
from worker.uploads import Uploads


class Server:
    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.uploads = 0
        self.checkpoints: list[int] = []
        self.generators: list[dict[str, str]] = []
        self.artifacts: dict[str, str] = {}
        self.files: dict[str, tuple[str, str, int]] = {}
        self.full = False
        self.policy: CheckpointPolicy | None = CheckpointPolicy(keep_last=3)
        """None: the server is away."""
        self.sweeps = 0
        """How many registrations find the blobs gone that were uploaded before."""

    def __call__(self, request: Request) -> Answer:
        path = request.path.removeprefix("/api/v1/worker/")
        if path.startswith("blobs/"):
            return self.on_blob(request, path.removeprefix("blobs/"))
        if path == "attempts/7/retention":
            return Answer(200, self.policy.model_dump_json().encode()) if self.policy else Answer(503)
        body = json.loads(request.body)
        if path.startswith("artifacts/"):
            _, kind, key = path.split("/")
            stands = self.artifacts.setdefault(f"{kind}-{key}", body["blob_sha256"])
            view = {"kind": kind, "key": key, "blob_sha256": stands, "size": 1}
            return Answer(200, json.dumps(view).encode())
        if self.sweeps:
            self.sweeps -= 1
            self.blobs.clear()
        if path.endswith("/files"):
            return self.on_file(body)
        if any(file["sha256"] not in self.blobs for file in body["files"]):
            return problem(404, "blob-missing", "it was removed")
        self.checkpoints.append(body["step"])
        self.generators.append(body["generators"])
        view = {"id": 1, "job_id": 1, "attempt": 1, "created_at": datetime.now(UTC).isoformat(), **body}
        return Answer(200, json.dumps(view).encode())

    def on_file(self, body: dict[str, Any]) -> Answer:
        if body["sha256"] not in self.blobs:
            return problem(404, "blob-missing", "it was removed")
        if body["name"] == "unwanted":
            return problem(409, "file-differs", "another size")
        self.files[body["name"]] = (body["media_type"], body["md5"], body["size"])
        return Answer(204)

    def on_blob(self, request: Request, sha256: str) -> Answer:
        if request.method == "HEAD":
            return Answer(200 if sha256 in self.blobs else 404)
        self.uploads += 1
        if self.full:
            return problem(507, "disk-full", "the disk is full")
        if hashlib.sha256(request.body).hexdigest() != sha256:
            return problem(422, "digest-mismatch", "the bytes hash to something else")
        self.blobs[sha256] = request.body
        return Answer(201, b"{}")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with serving() as running:
        running.answer = server
        yield running


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.create()
    return run


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def uploads(wire: Wire, run: RunDir, tmp_path: Path, said: list[str]) -> Iterator[Uploads]:
    with wire.api() as api:
        cache = Cache(tmp_path / "cache", 1 << 30)
        yield Uploads(
            api,
            run,
            cache,
            CheckpointPolicy(keep_last=3),
            "job=1 attempt=1",
            lambda kind, message: said.append(message),
        )


def save(run: RunDir, *steps: int, data: bytes | None = None) -> None:
    for step in steps:
        weights = data or b"weights of %d" % step
        directory = run.checkpoints / f"step-{step}"
        directory.mkdir()
        (directory / "model.pt").write_bytes(weights)
        sha256, md5 = hashlib.sha256(weights).hexdigest(), hashlib.md5(weights).hexdigest()
        about = {"role": "checkpoint", "sha256": sha256, "md5": md5, "size": len(weights)}
        manifest = Manifest(step=step, files={"model.pt": about}, fingerprint="f", generators={"torch": f"of {step}"})
        write_json(directory / "manifest.json", manifest)


def local(run: RunDir) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir())


def test_the_newest_two_stay_on_the_disk(uploads: Uploads, run: RunDir, server: Server) -> None:
    for step in (1, 2, 3, 4):
        save(run, step)
        assert not uploads.upload()
    assert server.checkpoints == [1, 2, 3, 4]
    assert server.generators == [{"torch": f"of {step}"} for step in server.checkpoints]
    assert local(run) == ["step-3", "step-4"]
    assert not uploads.upload()
    assert server.uploads == 4


def test_a_directory_without_manifest_is_no_checkpoint(uploads: Uploads, run: RunDir, server: Server) -> None:
    save(run, 1)
    (run.checkpoints / "step-1" / "manifest.json").unlink()
    uploads.upload()
    assert server.checkpoints == []
    assert local(run) == ["step-1"]


def test_equal_bytes_are_uploaded_once(uploads: Uploads, run: RunDir, server: Server) -> None:
    save(run, 1, 2, data=b"the same")
    assert uploads.upload()
    uploads.upload()
    assert server.checkpoints == [1, 2]
    assert server.uploads == 1


def test_after_an_outage_only_what_the_server_would_keep_is_uploaded(
    uploads: Uploads, run: RunDir, server: Server
) -> None:
    save(run, 9, 10, 11, 12, 13)
    while uploads.upload():
        pass
    assert server.checkpoints == [11, 12, 13]
    assert local(run) == ["step-12", "step-13"]


def test_after_an_outage_what_the_policy_keeps_is_uploaded_however_old(
    uploads: Uploads, run: RunDir, server: Server
) -> None:
    server.policy = CheckpointPolicy(keep_last=2, keep_best="val/rmse_f", keep_every=10)
    save(run, 9, 10, 11, 12, 13, 14)
    best = run.checkpoints / "step-11" / "manifest.json"
    manifest = Manifest.model_validate_json(best.read_bytes())
    write_json(best, manifest.model_copy(update={"metrics": {"val/rmse_f": 0.1}}))
    while uploads.upload():
        pass
    assert server.checkpoints == [10, 11, 13, 14]


def test_a_policy_that_was_changed_while_it_trains_holds_for_what_waits(
    uploads: Uploads, run: RunDir, server: Server
) -> None:
    save(run, 1, 2, 3, 4, 5, 6)
    server.policy = CheckpointPolicy(keep_last=5)  # more than was claimed with
    assert uploads.upload()
    assert local(run) == ["step-2", "step-3", "step-4", "step-5", "step-6"]
    server.policy = None
    assert uploads.upload()  # nobody answers: as last heard
    assert local(run) == ["step-2", "step-3", "step-4", "step-5", "step-6"]
    save(run, 7, 8)
    assert uploads.upload()
    assert server.checkpoints == [2, 3, 4]


def test_a_checkpoint_waits_for_a_server_without_room_and_says_so_once(
    uploads: Uploads, run: RunDir, server: Server, said: list[str]
) -> None:
    save(run, 1)
    server.full = True
    for _ in range(3):
        with pytest.raises(client.ServerFull):
            uploads.upload()
    assert said == ["The checkpoint of step 1 waits on the worker and is sent again: the disk is full"]
    server.full = False
    uploads.upload()
    assert server.checkpoints == [1]


def test_a_throttled_upload_takes_its_time_until_the_training_is_over(
    uploads: Uploads, run: RunDir, server: Server
) -> None:
    uploads.throttle = Throttle(1000)
    save(run, 1, data=b"x" * 50_000)
    upload = threading.Thread(target=uploads.upload)
    upload.start()
    upload.join(1)
    assert upload.is_alive()  # 50 seconds are what this rate takes
    assert server.checkpoints == []
    uploads.throttle.lift()
    upload.join(20)
    assert server.checkpoints == [1]


def test_a_damaged_checkpoint_is_said_aloud_and_the_next_goes_on(
    uploads: Uploads, run: RunDir, server: Server, said: list[str]
) -> None:
    save(run, 1, 2)
    (run.checkpoints / "step-1" / "model.pt").write_bytes(b"weights oF 1")
    while uploads.upload():
        pass
    assert server.checkpoints == [2]
    assert list(uploads.refused) == [1]
    assert "step 1 was not kept: the bytes hash to something else" in said[0]


def test_the_artifact_that_stands_is_remembered(uploads: Uploads, run: RunDir, server: Server) -> None:
    key = "cd" * 32
    first = hashlib.sha256(b"made by another worker").hexdigest()
    server.artifacts[f"neighbour-statistics-{key}"] = first
    (run.artifacts_out / f"neighbour-statistics-{key}").write_bytes(b"mine")
    (run.artifacts_out / f".neighbour-statistics-{key}.tmp").write_bytes(b"half")
    uploads.upload()
    uploads.upload()
    assert server.uploads == 1
    view = uploads.cache.artifact("neighbour-statistics", key)
    assert view is not None
    assert view.blob_sha256 == first


def test_the_newest_checkpoint_of_an_interrupted_attempt_stays_on_this_host(
    uploads: Uploads, run: RunDir, wire: Wire
) -> None:
    save(run, 1, 2)
    while uploads.upload():
        pass
    uploads.keep_newest()
    wire.requests.clear()
    with uploads.cache.blob(uploads.api, hashlib.sha256(b"weights of 2").hexdigest()) as path:
        assert path.read_bytes() == b"weights of 2"
    assert wire.requests == []


def test_a_checkpoint_is_registered_only_after_the_metrics_of_its_steps_are_delivered(
    uploads: Uploads, run: RunDir, server: Server
) -> None:
    spooled = run.metrics / "000000.arrow"
    spooled.write_bytes(b"steps 1 to 8")
    save(run, 8)
    upload = threading.Thread(target=uploads.upload)
    upload.start()
    deadline = time.monotonic() + 60
    while not server.uploads:
        assert time.monotonic() < deadline, "the blob was not uploaded"
        time.sleep(0.01)
    upload.join(0.5)
    assert upload.is_alive()
    assert server.uploads == 1
    assert server.checkpoints == []
    spooled.unlink()
    upload.join(60)
    assert server.checkpoints == [8]


def test_a_blob_that_is_swept_away_before_its_registration_is_sent_again(
    uploads: Uploads, run: RunDir, server: Server
) -> None:
    server.sweeps = 2
    save(run, 1)
    assert not uploads.upload()
    assert server.checkpoints == [1]
    assert server.uploads == 3


def test_a_server_that_keeps_no_blob_is_not_asked_for_ever(uploads: Uploads, run: RunDir, server: Server) -> None:
    server.sweeps = 100
    save(run, 1)
    uploads.upload()
    assert server.checkpoints == []
    assert uploads.refused == {1: "it was removed"}


def test_files_are_registered_once_they_are_finished(
    uploads: Uploads, run: RunDir, server: Server, said: list[str]
) -> None:
    content = b"# md"
    (run.files / "model_devi.out").write_bytes(content)
    (run.files / ".half.out").write_bytes(content)
    (run.files / "unwanted").write_bytes(b"another")
    server.sweeps = 1
    assert not uploads.upload()
    assert not uploads.upload()
    about = ("text/plain; charset=utf-8", hashlib.md5(content).hexdigest(), len(content))
    assert server.files == {"model_devi.out": about}
    assert uploads.refused_files == {"unwanted": "another size"}
    assert said == ["The file unwanted was not kept: another size"]
