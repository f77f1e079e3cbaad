"""Base models over REST: versions, inspections, promotion, downloads, deletion, and what people get wrong."""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.artifacts.service import note_damaged
from app.auth import ErrandIdentity, hash_token
from app.db import transaction
from app.errands import service as errands
from app.jobs import retention
from app.models import service
from app.tables import Blob, Checkpoint, Errand, Job
from app.wire.models import BaseRef, ModelDetail, ModelView
from tests.app.models.conftest import Inspect, Upload
from tests.app.simulated import SimulatedWorker, base_facts
from tests.app.test_bad_input import check

T = TypeVar("T")


def blobs(app) -> set[str]:
    with app.state.sessions() as session:
        return set(session.scalars(select(Blob.sha256)))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- versions ---------------------------------------------------------------------------------------------------------


def test_an_upload_is_inspected_and_ready(client, upload: Upload, inspect: Inspect):
    answer = upload(b"weights", file_name="my water.pt")
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == "/api/v1/models/water@1"
    model = answer.json()
    assert (model["name"], model["version"], model["state"]) == ("water", 1, "inspecting")
    assert (model["sha256"], model["md5"]) == (digest(b"weights"), hashlib.md5(b"weights").hexdigest())
    assert (model["size"], model["file_name"], model["source"]) == (7, "my_water.pt", "upload my_water.pt")
    errand = inspect()
    assert (errand.grant["kind"], errand.grant["file_name"], errand.grant["size"]) == ("inspect", "my_water.pt", 7)
    assert errand.fetch() == b"weights"
    assert errand.send("GET", "blob", headers={"Range": "bytes=2-3"}).content == b"ig"
    assert errand.found().status_code == 204
    for ref in (model["id"], "water", "water@1"):
        ready = ModelDetail.model_validate(client.get(f"/api/v1/models/{ref}").json())
        assert (ready.state, ready.architecture, ready.parameters) == ("ready", "se_e2_a", 6)
        assert (ready.type_map, ready.branches, ready.used_by) == (["Cu"], [], [])
        assert ready.facts is not None
        assert ready.facts.tensors[0].name == "descriptor.w"


def test_a_multi_task_model_has_branches(client, upload: Upload, inspect: Inspect):
    upload()
    branch = {"model": {}, "parameters": 3}
    branches = [branch | {"name": "H2O", "type_map": ["O", "H"]}, branch | {"name": "Cu", "type_map": ["O", "Cu"]}]
    inspect().found(branches=branches, architecture="x" * 500)
    model = client.get("/api/v1/models/water").json()
    assert (model["branches"], model["type_map"]) == (["H2O", "Cu"], ["O", "H", "Cu"])
    assert model["architecture"] == "x" * 120


def test_a_refused_file_is_kept_with_the_reason(client, upload: Upload, inspect: Inspect):
    upload(b"first")
    inspect().found()
    upload(b"second")
    inspect().refuse("it is a picture of a cat")
    refused = client.get("/api/v1/models/water@2").json()
    assert (refused["state"], refused["facts"]) == ("refused", None)
    assert refused["problem"]["message"] == "it is a picture of a cat"
    assert client.get("/api/v1/models/water").json()["version"] == 1
    again = upload(b"second")
    assert (again.status_code, again.json()["version"], again.json()["state"]) == (200, 2, "refused")


def test_a_name_whose_every_version_was_refused_still_shows_why(client, upload: Upload, inspect: Inspect):
    upload()
    inspect().refuse("no")
    assert client.get("/api/v1/models/water").json()["problem"]["message"] == "no"


def test_a_bare_body_works_like_a_form(client, upload: Upload):
    answer = client.post("/api/v1/models?name=water&filename=w.pt", content=b"weights")
    assert (answer.status_code, answer.json()["source"]) == (201, "upload w.pt")
    again = upload(b"weights")
    assert (again.status_code, again.json()["id"]) == (200, answer.json()["id"])


def test_the_same_bytes_are_the_same_version_and_inspected_once(app, upload: Upload, inspect: Inspect):
    assert upload(b"one").json()["version"] == 1
    assert upload(b"two").json()["version"] == 2
    assert upload(b"one").json()["version"] == 1
    inspect().found()
    elsewhere = upload(b"one", name="steam").json()
    assert (elsewhere["version"], elsewhere["state"], elsewhere["parameters"]) == (1, "ready", 6)
    with app.state.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Errand)) == 2


def test_all_names_of_the_bytes_learn_what_was_found(client, upload: Upload, inspect: Inspect):
    upload(name="a")
    errand = inspect()
    upload(name="b")
    errand.found()
    assert [client.get(f"/api/v1/models/{name}").json()["state"] for name in "ab"] == ["ready", "ready"]


def test_uploads_at_the_same_moment_get_versions_of_their_own(upload: Upload):
    barrier, answers = threading.Barrier(4), []

    def go(number: int) -> None:
        barrier.wait()
        answers.append(upload(b"same" if number < 2 else f"other {number}".encode()).json())

    threads = [threading.Thread(target=go, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer["version"] for answer in answers} == {1, 2, 3}
    assert len({answer["id"] for answer in answers}) == 3


def test_an_inspection_that_ends_during_an_upload_is_not_missed(app, upload: Upload, inspect: Inspect):
    upload(name="a")
    errand = inspect()
    holder = ErrandIdentity(errand.grant["errand_id"], hash_token(errand.grant["token"]))
    with transaction(app.state.sessions) as session:
        ended = errands.finish(session, holder, json.dumps({"result": base_facts()}).encode())
        service.settle(session, ended)
        second = in_background(lambda: upload(name="b"))
    assert second().json()["state"] == "ready"


def test_an_inspection_does_not_end_before_those_that_wait_for_it_are_seen(
    app, client, upload: Upload, inspect: Inspect
):
    digests = app.state.blobs.keep_bytes(b"weights")
    upload(b"weights", name="a")
    errand = inspect()
    with transaction(app.state.sessions) as session:
        service.register(
            session, app.state.blobs, name="b", digests=digests, file_name="b.pt", source="test", engine="deepmd"
        )
        found = in_background(errand.found)
    assert found().status_code == 204
    assert client.get("/api/v1/models/b").json()["state"] == "ready"


def in_background(call: Callable[[], T]) -> Callable[[], T]:
    """Begin a call that has to wait for our transaction; what is returned gives its result."""
    pool = ThreadPoolExecutor(1)
    done = pool.submit(call)
    pool.shutdown(wait=False)
    time.sleep(0.4)
    assert not done.done()
    return lambda: done.result(timeout=30)


def test_dead_workers_are_forgiven_when_the_file_comes_again(app, upload: Upload, inspect: Inspect):
    upload()
    with transaction(app.state.sessions) as session:
        problem = {"code": "errand-abandoned", "message": "3 workers died"}
        session.execute(update(Errand).values(state="refused", problem=problem))
        service.settle(session, session.scalars(select(Errand)).one())
    again = upload()
    assert (again.status_code, again.json()["state"], again.json()["problem"]) == (200, "inspecting", None)
    inspect().found()
    assert upload().json()["state"] == "ready"


def test_a_refused_file_is_looked_at_anew_by_another_library(app, upload: Upload, inspect: Inspect, monkeypatch):
    upload()
    inspect().refuse()
    monkeypatch.setattr(service, "installed_version", lambda _: "99")
    assert upload().json()["state"] == "inspecting"
    inspect().found()
    assert upload().json()["state"] == "ready"


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_an_upload_may_wait_for_its_inspection(upload: Upload, inspect: Inspect, app):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(upload(wait=20)))
    thread.start()
    while not _waiting(app):
        pass
    inspect().found()
    thread.join(timeout=15)
    assert (answers[0].status_code, answers[0].json()["state"]) == (201, "ready")


def _waiting(app) -> bool:
    with app.state.sessions() as session:
        return session.scalar(select(Errand.id)) is not None


def test_waiting_ends_with_the_time(client, upload: Upload):
    assert upload(wait=0.1).json()["state"] == "inspecting"
    assert client.get("/api/v1/models/water?wait=0.1").json()["state"] == "inspecting"


@pytest.mark.parametrize("wait", ["31", "-1", "nan", "x"])
def test_nobody_waits_for_ever(client, upload: Upload, wait):
    assert client.get("/api/v1/models/water", params={"wait": wait}).status_code == 422


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "Water", "-water", "a b", "a/b", "x" * 64, "job:1", "ü", "water@2"])
def test_a_bad_name_is_refused(client, upload: Upload, name):
    for answer in (upload(name=name), client.post("/api/v1/models", params={"name": name}, content=b"w")):
        assert (answer.status_code, answer.json()["code"], answer.json()["pointer"]) == (422, "bad-name", "/name")
        assert "base model" in answer.json()["message"]


def test_no_name_no_file_and_no_such_engine_are_refused(client, upload: Upload):
    assert client.post("/api/v1/models", content=b"w").json()["code"] == "bad-name"
    answer = client.post("/api/v1/models", data={"name": "x"}, files={"other": ("a.pt", b"w")})
    assert (answer.status_code, answer.json()["code"]) == (422, "missing-file")
    answer = upload(engine="alchemy")
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown-engine")


def test_an_empty_file_is_refused(app, client, upload: Upload):
    for answer in (upload(b""), client.post("/api/v1/models?name=water", content=b"")):
        assert (answer.status_code, answer.json()["code"]) == (422, "empty-file")
    assert blobs(app) == set()


def test_an_upload_over_the_limit_is_refused(app, client, settings, upload: Upload):
    settings.max_upload_bytes = 10_000
    data = b"w" * 20_000
    for answer in (upload(data), client.post("/api/v1/models?name=x", content=iter([data[:5000], data[5000:]]))):
        assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
    assert list(app.state.blobs.scratch.iterdir()) == []


def test_strangers_and_workers_see_no_models(anonymous, worker_client):
    assert worker_client.get("/api/v1/models").status_code == 403
    for method, path in (("GET", "models"), ("POST", "models"), ("GET", "models/x/file"), ("DELETE", "models/x@1")):
        assert anonymous.request(method, f"/api/v1/{path}").status_code == 401


def test_an_unknown_model_is_named_with_those_that_are_near(client, upload: Upload):
    assert "cairn model add" in client.get("/api/v1/models/water").json()["hint"]
    for name in ("water", "copper"):
        upload(name.encode(), name=name)
    hints = {
        "watre": "Did you mean: water?",
        "water@7": "There are: water@1.",
        "zinc": "There are: copper, water.",
        "job:3": "`cairn model promote 3`",
        "999": "There are",
        "9" * 30: "There are",
        "water@0": "There are",
    }
    for ref, hint in hints.items():
        answer = client.get(f"/api/v1/models/{ref}")
        assert (answer.status_code, answer.json()["code"]) == (404, "no-such-model")
        assert hint in answer.json()["hint"], ref


@pytest.mark.parametrize("number", ["0", "-1", "9223372036854775808", "1" * 400, "1.5", "\u0967", "%00", "a%2Fb"])
def test_any_text_in_an_address(client, worker_client, number):
    check(client.get(f"/api/v1/models/{number}"))
    check(client.get(f"/api/v1/models/{number}/file"))
    check(client.delete(f"/api/v1/models/{number}"))
    check(worker_client.post(f"/api/v1/worker/errands/{number}/claim", json={"worker_id": "x"}))
    check(worker_client.get(f"/api/v1/worker/errands/{number}/blob"))


@pytest.mark.parametrize("body", [{}, {"job": 0}, {"job": 2**70}, {"job": 1, "step": -1}, {"job": 1, "name": "A b"}])
def test_a_promotion_that_makes_no_sense_is_refused(client, body):
    answer = client.post("/api/v1/models/promote", json=body)
    check(answer)
    assert answer.status_code in (404, 422)


# --- promotion --------------------------------------------------------------------------------------------------------


@pytest.fixture
def job(submit, worker: SimulatedWorker):
    """A running job with checkpoints of steps 200 and 400, of which it keeps two."""
    job_id = submit(checkpoints={"keep_last": 2})["id"]
    attempt = worker.claim(job_id)
    for step in (200, 400):
        assert attempt.checkpoint(step).status_code == 200
    return attempt


def test_a_checkpoint_becomes_a_base_model(client, job, inspect: Inspect):
    job_id = job.claim["job_id"]
    answer = client.post("/api/v1/models/promote", json={"job": job_id})
    assert answer.status_code == 201, answer.text
    model = ModelView.model_validate(answer.json())
    assert (model.ref, model.job_id, model.step) == (f"job-{job_id}@1", job_id, 400)
    assert (model.source, model.file_name) == (f"job {job_id}, step 400", "model.ckpt-400.pt")
    assert model.sha256 == digest(b"weights of step 400")
    inspect().found()
    again = client.post("/api/v1/models/promote", json={"job": job_id, "step": 400})
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (200, model.id, "ready")
    older = client.post("/api/v1/models/promote", json={"job": job_id, "step": 200, "name": "water"})
    assert (older.status_code, older.json()["name"], older.json()["step"]) == (201, "water", 200)
    for ref, found in ((f"job:{job_id}", model.id), (f"job:{job_id}@200", older.json()["id"])):
        assert client.get(f"/api/v1/models/{ref}").json()["id"] == found


def test_what_cannot_be_promoted_is_refused(client, submit, job):
    none = client.post("/api/v1/models/promote", json={"job": 999})
    assert (none.status_code, none.json()["code"]) == (404, "no-such-job")
    new = client.post("/api/v1/models/promote", json={"job": submit()["id"]})
    assert (new.status_code, new.json()["code"]) == (404, "no-checkpoint")
    gone = client.post("/api/v1/models/promote", json={"job": job.claim["job_id"], "step": 300})
    assert (gone.status_code, gone.json()["code"]) == (404, "no-checkpoint")
    assert "400, 200" in gone.json()["hint"]


def test_a_checkpoint_without_weights_cannot_be_promoted(client, submit, worker: SimulatedWorker):
    attempt = worker.claim(submit()["id"])
    file = {"name": "state.pt", "role": "state", **attempt.upload(b"state")}
    body = {"step": 1, "files": [file], "metrics": {}}
    assert attempt.send("POST", f"{attempt.path}/checkpoints", json=body).status_code == 200
    answer = client.post("/api/v1/models/promote", json={"job": attempt.claim["job_id"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing-to-promote")


def test_the_same_file_again_heals_a_damaged_one(app, client, upload: Upload):
    upload(b"weights")
    path = app.state.blobs.backend.path(digest(b"weights"))
    path.unlink()
    with transaction(app.state.sessions) as session:
        note_damaged(session, [digest(b"weights")])
    assert client.get("/api/v1/models/water/file").status_code == 404
    upload(b"weights")
    assert client.get("/api/v1/models/water/file").content == b"weights"
    with app.state.sessions() as session:
        assert session.get_one(Blob, digest(b"weights")).damaged_at is None


def test_retention_keeps_what_was_promoted(app, client, job):
    job_id = job.claim["job_id"]
    client.post("/api/v1/models/promote", json={"job": job_id, "step": 200})
    assert job.checkpoint(600).status_code == 200
    assert job.checkpoint(800).status_code == 200
    assert [row["step"] for row in client.get(f"/api/v1/jobs/{job_id}/checkpoints").json()] == [800, 600, 200]
    assert client.get(f"/api/v1/models/job:{job_id}@200/file").content == b"weights of step 200"
    kept = blobs(app)
    assert digest(b"weights of step 200") in kept
    assert digest(b"state: weights of step 200") in kept
    assert digest(b"weights of step 400") not in kept
    assert not app.state.blobs.intact(digest(b"weights of step 400"))


def retain(session: Session, job) -> list[str]:
    """Register the job's next checkpoint, which pushes out the one of step 200."""
    session.add(Checkpoint(job_id=job.claim["job_id"], attempt=1, step=600))
    session.flush()
    return retention.retain(session, job.claim["job_id"])


def test_retention_waits_for_a_promotion_and_then_keeps_its_bytes(app, job):
    def retain_elsewhere() -> list[str]:
        with transaction(app.state.sessions) as session:
            return retain(session, job)

    with transaction(app.state.sessions) as session:
        model, _ = service.promote(session, app.state.blobs, job.claim["job_id"], 200)
        dropped = in_background(retain_elsewhere)
    assert dropped() == []
    assert model.blob_sha256 in blobs(app)


def test_a_promotion_that_comes_too_late_is_refused(app, client, job):
    body = {"job": job.claim["job_id"], "step": 200}
    with transaction(app.state.sessions) as session:
        assert digest(b"weights of step 200") in retain(session, job)
        promoted = in_background(lambda: client.post("/api/v1/models/promote", json=body))
    assert (promoted().status_code, promoted().json()["code"]) == (404, "no-checkpoint")
    assert client.get("/api/v1/models").json()["items"] == []


def test_an_upload_of_bytes_that_are_being_dropped_records_them_anew(app, job):
    digests = app.state.blobs.keep_bytes(b"weights of step 200")

    def register() -> str:
        with transaction(app.state.sessions) as session:
            values = {"name": "b", "file_name": "b.pt", "source": "test", "engine": "deepmd"}
            return service.register(session, app.state.blobs, digests=digests, **values)[0].blob_sha256

    with transaction(app.state.sessions) as session:
        assert digests.sha256 in retain(session, job)
        registered = in_background(register)
    assert registered() in blobs(app)


# --- reading and deleting ---------------------------------------------------------------------------------------------


def test_a_model_is_downloaded_under_its_files_name(client, upload: Upload):
    upload(b"weights")
    answer = client.get("/api/v1/models/water/file")
    assert answer.content == b"weights"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="water.pt"'
    assert answer.headers["ETag"] == f'"{digest(b"weights")}"'
    assert answer.headers["Repr-Digest"].startswith("sha-256=:")
    part = client.get("/api/v1/models/water@1/file", headers={"Range": "bytes=0-2"})
    assert (part.status_code, part.content) == (206, b"wei")
    assert client.head("/api/v1/models/water/file").headers["Content-Length"] == "7"
    assert client.get("/api/v1/models/water@2/file").status_code == 404


def test_lists_go_from_new_to_old_in_pages(client, upload: Upload, inspect: Inspect):
    for number in range(5):
        upload(f"{number}".encode(), name=f"set-{number}")
    inspect().found()
    first = client.get("/api/v1/models", params={"limit": 2}).json()
    assert [item["name"] for item in first["items"]] == ["set-4", "set-3"]
    second = client.get("/api/v1/models", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [item["name"] for item in second["items"]] == ["set-2", "set-1", "set-0"]
    assert second["next_cursor"] is None

    def names(**params: object) -> list[str]:
        return [item["name"] for item in client.get("/api/v1/models", params=params).json()["items"]]

    assert names(name="T-3") == ["set-3"]
    assert names(name="%") == []
    assert names(state="ready") == ["set-0"]
    assert names(state=["ready", "refused"]) == ["set-0"]
    assert "facts" not in first["items"][0]
    assert client.get("/api/v1/models", params={"cursor": "x"}).json()["code"] == "bad-cursor"
    assert client.get("/api/v1/models", params={"state": "x"}).status_code == 422


def test_a_model_that_nothing_uses_can_go(app, client, upload: Upload, inspect: Inspect):
    upload()
    upload(name="steam")
    inspect().found()
    assert client.delete("/api/v1/models/water").json()["code"] == "version-needed"
    assert client.delete("/api/v1/models/water@1").status_code == 204
    assert client.get("/api/v1/models/water").status_code == 404
    assert client.get("/api/v1/models/steam/file").content == b"weights"
    assert client.delete("/api/v1/models/steam@1").status_code == 204
    assert blobs(app) == set()
    assert not app.state.blobs.intact(digest(b"weights"))
    assert client.delete("/api/v1/models/steam@1").status_code == 404
    assert upload().json()["state"] == "inspecting"


def test_the_number_of_a_deleted_version_never_means_other_bytes(client, upload: Upload):
    first = upload(b"one").json()
    second = upload(b"two").json()
    assert client.delete("/api/v1/models/water@2").status_code == 204
    third = upload(b"three").json()
    assert third["version"] == 3
    assert third["id"] not in (first["id"], second["id"])
    for number in (1, 3):
        assert client.delete(f"/api/v1/models/water@{number}").status_code == 204
    assert upload(b"two").json()["version"] == 4, "also when none is left, and for bytes that had a number"


def test_a_model_that_goes_while_it_is_inspected_is_not_missed(client, upload: Upload, inspect: Inspect):
    upload()
    errand = inspect()
    assert client.delete("/api/v1/models/water@1").status_code == 204
    assert errand.found().json()["code"] == "errand-superseded"


def test_a_model_that_a_job_starts_from_stays(app, client, upload: Upload, submit):
    model, job = upload().json(), submit()
    with transaction(app.state.sessions) as session:
        session.execute(update(Job).where(Job.id == job["id"]).values(base_model_id=model["id"]))
    answer = client.delete("/api/v1/models/water@1")
    assert (answer.status_code, answer.json()["code"]) == (409, "model-in-use")
    assert f"job {job['id']} starts from it" in answer.json()["message"]
    assert client.get("/api/v1/models/water").json()["used_by"] == [job["id"]]


# --- for other parts --------------------------------------------------------------------------------------------------


def test_other_parts_find_versions_and_facts(app, upload: Upload, inspect: Inspect):
    upload(b"one")
    inspect().found()
    upload(b"two")
    with app.state.sessions() as session:
        assert service.find(session, BaseRef(name="water")).version == 2
        first = service.find(session, BaseRef(name="water", version=1))
        assert service.find(session, BaseRef(name="water", version=3)) is None
        assert service.find(session, BaseRef(job=1)) is None
        base = service.base(first)
        assert (base.name, base.sha256, base.facts.parameters) == ("water@1", digest(b"one"), 6)
    inspect().refuse()
    with app.state.sessions() as session:
        assert service.find(session, BaseRef(name="water")).version == 1
        assert service.find(session, BaseRef(name="water", version=2)).state == "refused"
