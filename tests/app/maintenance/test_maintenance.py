"""The store kept in order: what is damaged is found, what nobody needs goes, and what an upload needs stays."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from app.artifacts.errors import BlobCorrupt
from app.db import transaction
from app.maintenance import gc, verification
from app.models import service as models
from app.tables import Artifact, Blob, Dataset, DatasetName, Job, Verification
from app.tables.base import now
from tests.conftest import sha256

OLD = timedelta(days=40)


@pytest.fixture
def attempt(worker, submit):
    found = worker.claim(submit()["id"])
    assert found.checkpoint(200).status_code == 200
    assert found.checkpoint(400).status_code == 200
    return found


def path_of(app, data: bytes) -> Path:
    path: Path = app.state.blobs.backend.path(sha256(data))
    path.chmod(0o644)
    return path


def flip(path: Path) -> None:
    """Change one bit, and nothing that a look at the directory would tell."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def verify(client, app, *, quick: bool = False) -> dict:
    """Verify here and now, as the background thread does."""
    with transaction(app.state.sessions) as session:
        row = verification.begin(session, quick=quick)
    verification.Run(app.state.sessions, app.state.blobs, row.id, quick=quick).run()
    found: dict = client.get(f"/api/v1/maintenance/verify/{row.id}").json()
    assert found["state"] == "done", found
    return found


def words(report: dict) -> dict[str, tuple[str, list[str]]]:
    return {one["sha256"]: (one["problem"], [use["words"] for use in one["uses"]]) for one in report["damaged"]}


def test_damage_is_found_named_and_put_aside_and_the_job_told(client, app, attempt):
    job = attempt.claim["job_id"]
    good = verify(client, app)
    assert (good["damaged"], good["checked_blobs"], good["total_blobs"]) == ([], 5, 5)
    flip(path_of(app, b"weights of step 400"))
    path_of(app, b"state: weights of step 400").unlink()
    os.truncate(path_of(app, b"a tar of copper"), 3)

    report = verify(client, app)
    use = [f"checkpoint step 400 of job {job}"]
    assert words(report) == {
        sha256(b"weights of step 400"): ("sha256 differs", use),
        sha256(b"state: weights of step 400"): ("missing", use),
        sha256(b"a tar of copper"): (
            "3 bytes instead of 15",
            ["dataset copper@1", f"dataset copper@1, which job {job} trains on"],
        ),
    }
    aside = {one.sha256 for one in app.state.blobs.backend.quarantined()}
    assert aside == {sha256(b"weights of step 400"), sha256(b"a tar of copper")}
    events = [one for one in client.get(f"/api/v1/jobs/{job}/events").json() if one["kind"] == "damaged"]
    assert len(events) == 3
    assert any(f"checkpoint step 400 of job {job} is damaged (sha256 differs)" in one["message"] for one in events)

    newest, older = client.get(f"/api/v1/jobs/{job}/checkpoints").json()
    assert (newest["kept"], older["kept"]) == (["damaged, but new"], ["newest"])
    answer = client.get(f"/api/v1/jobs/{job}/checkpoints/{newest['id']}/model.ckpt-400.pt")
    assert (answer.status_code, answer.json()["code"]) == (410, "blob-corrupt")
    assert client.get("/api/v1/datasets/copper/download").status_code == 410

    # A second run says it again, but tells nobody twice.
    assert words(verify(client, app)).keys() == words(report).keys()
    again = [one for one in client.get(f"/api/v1/jobs/{job}/events").json() if one["kind"] == "damaged"]
    assert len(again) == 3


def test_the_same_bytes_again_heal_what_was_damaged(client, app, attempt):
    flip(path_of(app, b"weights of step 400"))
    verify(client, app)
    attempt.upload(b"weights of step 400")
    newest = client.get(f"/api/v1/jobs/{attempt.claim['job_id']}/checkpoints").json()[0]
    assert newest["kept"] == ["newest"]
    file = client.get(f"/api/v1/jobs/{attempt.claim['job_id']}/checkpoints/{newest['id']}/model.ckpt-400.pt")
    assert file.content == b"weights of step 400"
    assert verify(client, app)["damaged"] == []


def test_what_was_put_back_by_hand_is_healed_by_the_next_verification(client, app, attempt):
    path = path_of(app, b"weights of step 400")
    path.rename(path.with_suffix(".away"))
    assert len(verify(client, app)["damaged"]) == 1
    path.with_suffix(".away").rename(path)
    report = verify(client, app)
    assert (report["damaged"], len(report["healed"])) == ([], 1)
    events = client.get(f"/api/v1/jobs/{attempt.claim['job_id']}/events").json()
    assert "is good again" in events[-1]["message"]


def test_a_quick_run_finds_what_is_missing_or_short_but_hashes_nothing(client, app, attempt):
    flip(path_of(app, b"weights of step 400"))
    path_of(app, b"weights of step 200").unlink()
    report = verify(client, app, quick=True)
    assert list(words(report)) == [sha256(b"weights of step 200")]


def test_a_run_in_the_background_ends_and_only_one_goes_on_at_a_time(client, app, attempt):
    assert client.get("/api/v1/maintenance/verify").status_code == 404
    begun = client.post("/api/v1/maintenance/verify", json={"quick": True})
    assert begun.status_code == 202, begun.text
    deadline = time.monotonic() + 60
    while (found := client.get("/api/v1/maintenance/verify").json())["state"] == "running":
        assert time.monotonic() < deadline
    assert (found["state"], found["checked_blobs"], found["id"]) == ("done", 5, begun.json()["id"])
    with transaction(app.state.sessions) as session:
        verification.begin(session, quick=False)
    refused = client.post("/api/v1/maintenance/verify")
    assert (refused.status_code, refused.json()["code"]) == (409, "verification-running")
    with transaction(app.state.sessions) as session:  # its process died
        session.query(Verification).update({"heard_at": now() - timedelta(hours=1)})
    dead = client.get("/api/v1/maintenance/verify").json()
    assert (dead["state"], dead["problem"]) == ("failed", "its server stopped before the end")
    assert client.post("/api/v1/maintenance/verify").status_code == 202


# --- garbage ----------------------------------------------------------------------------------------------------------


def grow_old(app, *digests: str) -> None:
    """Let blobs be there for longer than an upload takes."""
    store = app.state.blobs
    for digest in digests:
        if (path := store.backend.path(digest)).exists():
            os.utime(path, (time.time() - 90_000,) * 2)
    with transaction(app.state.sessions) as session:
        for row in session.query(Blob).filter(Blob.sha256.in_(digests)):
            row.created_at = now() - OLD


def test_garbage_is_what_nothing_needs_and_is_old(client, app, attempt):
    store = app.state.blobs
    orphan, young_orphan = store.keep_bytes(b"bytes without a row"), store.keep_bytes(b"an upload in flight")
    unused, young_unused = attempt.upload(b"never registered"), attempt.upload(b"about to be registered")
    used = [one.sha256 for one in store.backend.blobs()]
    grow_old(app, orphan.sha256, unused["sha256"], sha256(b"weights of step 400"))
    leftover = store.scratch / "incoming-dead"
    leftover.write_bytes(b"12345")
    os.utime(leftover, (time.time() - 90_000,) * 2)

    dry = client.post("/api/v1/maintenance/gc", json={"dry_run": True}).json()
    assert {one.sha256 for one in store.backend.blobs()} == set(used)
    report = client.post("/api/v1/maintenance/gc").json()
    assert report == dry | {"dry_run": False}
    assert report["unknown"] == {"count": 1, "size": orphan.size}
    assert report["unused"] == {"count": 1, "size": unused["size"]}
    assert report["leftovers"] == {"count": 1, "size": 5}
    there = {one.sha256 for one in store.backend.blobs()}
    assert there == set(used) - {orphan.sha256, unused["sha256"]}
    assert {young_orphan.sha256, young_unused["sha256"]} <= there
    again = gc.collect(app.state.sessions, store, dry_run=False)
    assert again.size == 0


def test_old_statistics_go_unless_a_job_of_these_days_asks_for_them(client, app, attempt):
    from app.engines import registry

    job = client.get(f"/api/v1/jobs/{attempt.claim['job_id']}").json()
    engine = registry.get("deepmd")
    kind, key = next(iter(engine.artifact_keys(job["resolved"], {"copper@1": "c0" * 32}).items()))
    for name, data in ((key, b"statistics in use"), ("f" * 64, b"statistics of long ago"), ("e" * 64, b"fresh")):
        about = attempt.upload(data)
        body = {"blob_sha256": about["sha256"], "size": about["size"]}
        assert attempt.send("PUT", f"/api/v1/worker/artifacts/{kind}/{name}", json=body).status_code == 200
    with transaction(app.state.sessions) as session:
        for name in (key, "f" * 64):
            session.get_one(Artifact, (kind, name)).created_at = now() - OLD
    grow_old(app, sha256(b"statistics of long ago"), sha256(b"statistics in use"))
    report = client.post("/api/v1/maintenance/gc").json()
    assert report["artifacts"] == {"count": 1, "size": len(b"statistics of long ago")}
    assert report["unused"]["count"] == 1
    with app.state.sessions() as session:
        assert {row.key for row in session.query(Artifact)} == {key, "e" * 64}


def test_quarantine_is_reported_and_never_removed(client, app, attempt):
    flip(path_of(app, b"weights of step 400"))
    verify(client, app)
    report = client.post("/api/v1/maintenance/gc").json()
    assert report["quarantined"] == {"count": 1, "size": len(b"weights of step 400")}
    assert len(list(app.state.blobs.backend.quarantined())) == 1
    with pytest.raises(BlobCorrupt):
        app.state.blobs.verify(sha256(b"weights of step 400"))


# --- deleting datasets ------------------------------------------------------------------------------------------------


def test_a_dataset_goes_when_no_job_uses_it_and_its_number_stays_taken(client, app, copper, submit):
    job = submit()
    refused = client.delete("/api/v1/datasets/copper@1")
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset-in-use")
    assert f"job {job['id']}" in refused.json()["message"]
    assert client.delete("/api/v1/datasets/copper").json()["code"] == "version-needed"
    assert client.delete("/api/v1/datasets/silver@1").status_code == 404

    store = app.state.blobs
    second = add(app, b"more copper", 2)
    assert client.delete("/api/v1/datasets/copper@2").status_code == 204
    assert client.get("/api/v1/datasets/copper@2").status_code == 404
    assert not store.intact(second)
    from app.datasets.service import _numbers

    with transaction(app.state.sessions) as session:
        assert _numbers(session, "copper").last_version == 2
        assert session.get_one(DatasetName, "copper").last_version == 2


def add(app, data: bytes, version: int) -> str:
    """Register a version of copper, as an upload does."""
    from app.artifacts.service import record_blob
    from app.datasets.service import _numbers

    with transaction(app.state.sessions) as session:
        numbers = _numbers(session, "copper")
        numbers.last_version += 1
        assert numbers.last_version == version
        first = session.query(Dataset).filter_by(name="copper", version=1).one()
        blob = record_blob(session, app.state.blobs, app.state.blobs.keep_bytes(data))
        session.add(
            Dataset(
                name="copper",
                version=version,
                engine="deepmd",
                digest=sha256(data),
                blob_sha256=blob.sha256,
                size=blob.size,
                source="test",
                summary=first.summary,
            )
        )
        return blob.sha256


def test_bytes_that_something_else_needs_stay_when_a_dataset_goes(client, app, copper):
    digest = add(app, b"weights, oddly", 2)
    with transaction(app.state.sessions) as session:
        digests = app.state.blobs.keep_bytes(b"weights, oddly")
        models.register(
            session, app.state.blobs,
            name="odd", digests=digests, file_name="odd.pt", source="test", engine="deepmd",
        )  # fmt: skip
    assert client.delete("/api/v1/datasets/copper@2").status_code == 204
    assert app.state.blobs.intact(digest)
    with app.state.sessions() as session:
        assert session.get(Blob, digest) is not None
        assert session.query(Job).count() == 0
