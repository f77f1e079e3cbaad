"""Which checkpoints are kept, and why; another policy; what is never taken away."""

import math

import pytest

from app.artifacts import removal
from app.artifacts.service import sweep
from app.db import transaction
from app.jobs import retention
from app.models import service as models
from app.tables import Blob, Checkpoint, Job
from app.tables.base import now
from app.wire.retention import Candidate, kept
from app.wire.submission import CheckpointPolicy
from tests.app.simulated import SimulatedAttempt


def candidates(*steps: int, bad: tuple[int, ...] = (), **values: float | None) -> list[Candidate]:
    """Checkpoints of these steps; `s300=0.5` is the metric of one, `bad` are damaged."""
    metrics = {int(name[1:]): {"val/rmse_f": value} for name, value in values.items()}
    return [Candidate(step, step, metrics.get(step, {}), good=step not in bad) for step in steps]


def test_the_newest_the_best_and_every_nth_are_kept_each_with_its_reason():
    found = kept(
        candidates(100, 200, 300, 400, 500, 600, s200=0.3, s300=0.1, s400=0.2),
        CheckpointPolicy(keep_last=2, keep_best="val/rmse_f", keep_every=200),
    )
    assert found == {
        600: ["newest", "every 200"],
        500: ["newest"],
        400: ["every 200"],
        300: ["best val/rmse_f"],
        200: ["every 200"],
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_a_value_that_is_not_finite_is_never_the_best(value):
    policy = CheckpointPolicy(keep_last=2, keep_best="val/rmse_f")
    found = kept(candidates(1, 2, 3, 4, s1=value, s2=9.0), policy)
    assert found == {4: ["newest"], 3: ["newest"], 2: ["best val/rmse_f"]}
    assert set(kept(candidates(1, 2, 3, s1=value), policy)) == {2, 3}


def test_of_equal_values_the_newest_is_the_best():
    found = kept(candidates(1, 2, 3, 4, 5, s1=0.5, s2=0.5), CheckpointPolicy(keep_last=2, keep_best="val/rmse_f"))
    assert set(found) == {5, 4, 2}


def test_a_damaged_checkpoint_takes_no_good_ones_place():
    found = kept(
        candidates(1, 2, 3, 4, 5, 6, bad=(6, 4, 2), s4=0.1, s3=0.2),
        CheckpointPolicy(keep_last=2, keep_best="val/rmse_f"),
    )
    assert found == {
        6: ["damaged, but new"],
        5: ["newest"],
        4: ["damaged, but new"],
        3: ["newest", "best val/rmse_f"],
    }
    only_bad = kept(candidates(1, 2, 3, bad=(1, 2, 3)), CheckpointPolicy(keep_last=2))
    assert set(only_bad) == {1, 2, 3}


def test_the_last_two_are_kept_whatever_the_policy():
    with pytest.raises(ValueError, match="keep_last"):
        CheckpointPolicy(keep_last=1)


# --- on the server ----------------------------------------------------------------------------------------------------


@pytest.fixture
def start(submit, worker):
    """Submit a job with a policy and claim it."""

    def start(**policy) -> SimulatedAttempt:
        job = submit(checkpoints=policy, on_existing="new")
        return worker.claim(job["id"])

    return start


def save(attempt: SimulatedAttempt, step: int, value: float | None = None) -> None:
    """Register a checkpoint with a value of `train/rmse_f`, which as JSON has no NaN."""
    data = f"step {step} of job {attempt.claim['job_id']}".encode()
    files = [{"name": f"model-{step}.pt", "role": "checkpoint", **attempt.upload(data)}]
    body = {"step": step, "files": files, "metrics": {"train/rmse_f": value}, "fingerprint": "f" * 64}
    answer = attempt.send("POST", f"{attempt.path}/checkpoints", json=body)
    assert answer.status_code == 200, answer.text


def listed(client, attempt: SimulatedAttempt) -> dict[int, list[str]]:
    found = client.get(f"/api/v1/jobs/{attempt.claim['job_id']}/checkpoints").json()
    return {row["step"]: row["kept"] for row in found}


def test_checkpoints_that_arrive_push_out_what_the_policy_does_not_keep(client, app, start):
    attempt = start(keep_last=2, keep_best="train/rmse_f", keep_every=300)
    for step, value in ((100, 0.5), (200, 0.2), (300, None), (400, 0.3), (500, 0.4), (600, 0.6)):
        save(attempt, step, value)
    assert listed(client, attempt) == {
        600: ["newest", "every 300"],
        500: ["newest"],
        300: ["every 300"],
        200: ["best train/rmse_f"],
    }
    with app.state.sessions() as session:
        assert {row.sha256 for row in session.query(Blob)} >= {
            file.blob_sha256 for row in session.query(Checkpoint) for file in row.files
        }


def test_a_shorter_run_of_the_same_training_prunes_only_its_own(client, start):
    long, short = start(keep_last=2), start(keep_last=2)
    for step in (100, 200):
        save(long, step)
    for step in (10, 20, 30):
        save(short, step)
    assert set(listed(client, long)) == {100, 200}
    assert set(listed(client, short)) == {20, 30}


def test_what_something_refers_to_is_kept_and_says_so(client, app, start):
    attempt = start(keep_last=2)
    job_id = attempt.claim["job_id"]
    save(attempt, 100)
    with transaction(app.state.sessions) as session:
        base, _ = models.promote(session, app.state.blobs, job_id, 100, "water")
        name = f"base {base.name}@{base.version}"
    for step in (200, 300, 400):
        save(attempt, step)
    assert listed(client, attempt) == {400: ["newest"], 300: ["newest"], 100: [name, "being inspected"]}


def test_a_dry_run_changes_nothing_and_says_what_it_would_free(client, start):
    attempt = start(keep_last=4)
    for step in (100, 200, 300, 400):
        save(attempt, step)
    path = f"/api/v1/jobs/{attempt.claim['job_id']}/retention"
    plan = client.get(path, params={"keep_last": 2, "keep_every": 100}).json()
    assert plan["removed"] == []
    plan = client.get(path, params={"keep_last": 2}).json()
    assert [row["step"] for row in plan["kept"]] == [400, 300]
    assert [row["step"] for row in plan["removed"]] == [200, 100]
    assert plan["size"] == sum(file["size"] for row in plan["removed"] for file in row["files"])
    assert set(listed(client, attempt)) == {100, 200, 300, 400}
    assert client.get(path, params={"keep_last": 1}).status_code == 422


def test_another_policy_takes_effect_at_once_and_stays(client, app, start):
    attempt = start(keep_last=4)
    for step in (100, 200, 300, 400):
        save(attempt, step)
    job_id = attempt.claim["job_id"]
    answer = client.put(f"/api/v1/jobs/{job_id}/retention", json={"keep_last": 2, "keep_every": 100})
    assert answer.status_code == 200, answer.text
    assert answer.json()["removed"] == []
    answer = client.put(f"/api/v1/jobs/{job_id}/retention", json={"keep_last": 2})
    assert [row["step"] for row in answer.json()["removed"]] == [200, 100]
    assert attempt.send("GET", f"{attempt.path}/retention").json()["keep_last"] == 2  # a worker that is behind asks
    save(attempt, 500)
    assert set(listed(client, attempt)) == {400, 500}
    with app.state.sessions() as session:
        gone = [row.sha256 for row in session.query(Blob) if row.size == len(f"step 100 of job {job_id}")]
    assert len(gone) == 2  # of the two that are left: the bytes of the others are gone with their rows
    events = client.get(f"/api/v1/jobs/{job_id}/events").json()
    assert [one["message"] for one in events if one["kind"] == "retention"][-1].endswith("the newest 2")


def test_the_best_by_something_that_is_never_measured_is_a_mistake(client, copper, config, submit):
    body = {"config": config, "checkpoints": {"keep_best": "val/rmse_f"}}
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["code"], problem["pointer"]) == ("unknown-metric", "/checkpoints/keep_best")
    assert "no validation data" in problem["message"]
    assert "train/rmse_f" in problem["hint"]
    config["training"]["validation_data"] = {"systems": ["dataset:copper/md"]}
    assert client.post("/api/v1/jobs", json=body).status_code == 201
    job = submit(on_existing="new")
    answer = client.put(f"/api/v1/jobs/{job['id']}/retention", json={"keep_best": "train/rmse_q"})
    assert (answer.status_code, answer.json()["pointer"]) == (422, "/keep_best")


def test_a_metric_that_no_checkpoint_has_is_said_with_the_first(client, start):
    attempt = start(keep_best="train/rmse_e")
    save(attempt, 100, 0.1)
    save(attempt, 200, 0.1)
    events = client.get(f"/api/v1/jobs/{attempt.claim['job_id']}/events").json()
    warnings = [one["message"] for one in events if one["kind"] == "warning" and "rmse_e" in one["message"]]
    assert len(warnings) == 1
    assert "step 100 has no metric 'train/rmse_e'" in warnings[0]


def test_a_damaged_newest_checkpoint_does_not_push_out_the_last_good_one(client, app, start):
    attempt = start(keep_last=2)
    for step in (100, 200):
        save(attempt, step)
    with transaction(app.state.sessions) as session:
        row = session.query(Checkpoint).filter_by(step=200).one()
        row.files[0].blob.damaged_at = now()
    save(attempt, 300)
    save_id = attempt.claim["job_id"]
    assert listed(client, attempt) == {300: ["newest"], 200: ["damaged, but new"], 100: ["newest"]}
    with transaction(app.state.sessions) as session:
        assert retention.retain(session, save_id) == []
        assert session.get_one(Job, save_id).checkpoint_policy["keep_last"] == 2


# --- the race ---------------------------------------------------------------------------------------------------------


def test_a_sweep_waits_for_who_records_the_same_bytes_and_then_leaves_them(app, client):
    """Deterministic: the upload has inserted its row and not committed when the sweep begins."""
    import threading

    from app.artifacts.service import record_blob

    store = app.state.blobs
    digests = store.keep_bytes(b"bytes that somebody sends again")
    swept: list[list[str]] = []
    thread = threading.Thread(target=lambda: swept.append(sweep(app.state.sessions, store, [digests.sha256])))
    with transaction(app.state.sessions) as session:
        record_blob(session, store, digests)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(30)
    assert swept == [[]]
    assert store.intact(digests.sha256)


@pytest.mark.parametrize("is_far", [False, True])
def test_bytes_that_are_being_swept_must_be_sent_again_and_keep_nobody_waiting_for_a_network(
    app, client, database_url, is_far
):
    import threading

    from app.artifacts.errors import BlobVanished
    from app.artifacts.service import record_blob

    store = app.state.blobs
    store.backend.is_far = is_far
    digests, others = store.keep_bytes(b"bytes that are swept"), store.keep_bytes(b"other bytes")
    removing, go_on = threading.Event(), threading.Event()
    remove = store.backend.remove

    def slowly(sha256: str) -> None:
        removing.set()
        assert go_on.wait(120)
        remove(sha256)

    store.backend.remove = slowly
    sweeping = threading.Thread(target=sweep, args=(app.state.sessions, store, [digests.sha256]))
    sweeping.start()
    assert removing.wait(30)
    refused: list[BaseException] = []

    def record() -> None:
        try:
            with transaction(app.state.sessions) as session:
                record_blob(session, store, digests)
        except BlobVanished as error:
            refused.append(error)

    recording = threading.Thread(target=record)
    recording.start()
    has_row_locks = database_url.startswith("postgresql")
    waits = has_row_locks or not is_far
    recording.join(0.3 if waits else 30)
    assert recording.is_alive() == waits
    if has_row_locks or is_far:
        with transaction(app.state.sessions) as session:
            record_blob(session, store, others)
        assert sweep(app.state.sessions, store, [others.sha256]) == []
    assert sweeping.is_alive()
    go_on.set()
    sweeping.join(30)
    recording.join(30)
    assert len(refused) == 1
    with app.state.sessions() as session:
        assert session.get(Blob, digests.sha256) is None


def test_bytes_are_removed_by_one_at_a_time():
    with removal.of("ab") as first, removal.of("ab") as second:
        assert (first, second) == (True, False)
    with removal.of("ab") as is_ours:
        with removal.of("ab"):
            pass
        assert is_ours
        assert removal.is_under_way("ab"), "the other's end is not ours"
    assert not removal.is_under_way("ab")
