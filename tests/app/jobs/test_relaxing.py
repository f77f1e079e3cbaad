"""Jobs of kind relax over REST: structures are sent, refused or pinned, and the job counts its frames at the end."""

import threading

import pytest
from sqlalchemy import select

from app.db import transaction
from app.jobs import transitions
from app.jobs.tidying import tidy_due
from app.tables import CheckpointFile
from tests.app.jobs.conftest import inspect, register
from tests.app.jobs.test_exactness import ENVIRONMENT as STRICT

PAIR = "2\n\nCu 0 0 0\nCu 0 0 {}\n"


@pytest.fixture
def send(client):
    """Send a pair of copper atoms so far apart as structures; return the answer."""

    def send(distance, **fields):
        params = {"name": "pair", "filename": "pair.xyz", "form": "structures", **fields}
        return client.post("/api/v1/datasets", params=params, content=PAIR.format(distance).encode())

    return send


@pytest.fixture
def relax(client, app, worker):
    """Submit a relaxation by a base model that is ready; return the answer."""
    register(app, "metal", b"weights of metal", engine="deepmd")
    inspect(app, worker, engine="deepmd")

    def relax(*structures, config=None, **options):
        config = {"models": ["metal"], "structures": list(structures), **(config or {})}
        return client.post("/api/v1/jobs", json={"kind": "relax", "config": config, **options})

    return relax


def codes(answer):
    assert answer.status_code == 422, answer.text
    return {problem["pointer"]: problem["code"] for problem in answer.json()["problems"]}


def test_it_is_strict_and_counts_its_frames_when_it_has_ended(send, relax, client, worker):
    assert send(2.5).status_code == 201
    job = relax("dataset:pair").json()
    assert (job["determinism"], job["resolved"]["structures"]) == ("strict", ["dataset:pair@1/pair"])
    assert (job["progress"]["total_steps"], job["progress"]["unit"]) == (0, "frame")
    attempt = worker.claim(job["id"])
    assert [one["name"] for one in attempt.claim["datasets"]] == ["pair"]
    attempt.end("completed", 7, total_steps=7)
    ended = client.get(f"/api/v1/jobs/{job['id']}").json()
    assert (ended["state"], ended["progress"]["total_steps"]) == ("completed", 7)


def test_one_that_was_interrupted_goes_on_and_its_checkpoints_are_no_models(send, relax, client, worker, app):
    send(2.5)
    job = relax("dataset:pair").json()["id"]
    first = worker.claim(job)
    first.environment(STRICT)
    assert first.checkpoint(5).status_code == 200
    first.end("interrupted", 6)
    second = worker.claim(job, attempt=2)
    assert second.claim["resume_from"]["step"] == 5
    second.environment(STRICT)
    found = client.get(f"/api/v1/jobs/{job}").json()
    told = client.get(f"/api/v1/jobs/{job}/events").json()
    assert "from the checkpoint of frame 5" in [one["message"] for one in told if one["kind"] == "claimed"][-1]
    assert found["exactness"]["exact"], found["exactness"]
    assert not [line for line in found["exactness"]["proof"] if "weights" in line]
    second.events({"seq": second.claim["next_event_seq"], "kind": "inexact", "message": "pair goes on otherwise."})
    found = client.get(f"/api/v1/jobs/{job}").json()["exactness"]
    assert (found["exact"], found["reasons"]) == (False, ["execution 2: pair goes on otherwise"])
    assert codes(relax("dataset:pair", config={"models": [f"job:{job}"]})) == {"/config/models/0": "no-training"}
    promoted = client.post("/api/v1/models/promote", json={"job": job})
    assert (promoted.status_code, promoted.json()["code"]) == (409, "no-training")
    assert f"Job {job} is a relax job: only trainings make models." in promoted.json()["message"]
    assert client.post(f"/api/v1/jobs/{job}/extend", json={"steps": 9}).json()["code"] == "no-training"

    kept = [one["sha256"] for one in client.get(f"/api/v1/jobs/{job}/checkpoints").json()[0]["files"]]
    assert all(app.state.blobs.intact(sha256) for sha256 in kept)
    second.end("completed", 7, total_steps=7)
    assert client.get(f"/api/v1/jobs/{job}/checkpoints").json() == []
    assert not any(app.state.blobs.intact(sha256) for sha256 in kept), "of a completed relaxation its files are enough"


def test_what_a_process_leaves_that_dies_after_accepting_the_end_is_tidied_later_and_by_several(
    send, relax, submit, client, worker, app, settings
):
    training = worker.claim(submit()["id"])
    training.checkpoint(5, b"weights")
    training.end("completed", 1000)
    send(2.5)
    job = relax("dataset:pair").json()["id"]
    attempt = worker.claim(job)
    attempt.checkpoint(5, b"frames")
    assert tidy_due(app.state.sessions, settings) == 0, "it may go on"
    with app.state.sessions() as session:
        kept = {file.blob_sha256 for file in session.scalars(select(CheckpointFile))}
    with transaction(app.state.sessions) as session:  # all that is left of the request when the process dies then
        number = attempt.claim["attempt_id"]
        transitions.end(session, number, "completed", step=7, total_steps=7, cause=None, settings=settings)

    threads = [threading.Thread(target=tidy_due, args=(app.state.sessions, settings)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert client.get(f"/api/v1/jobs/{job}/checkpoints").json() == []
    assert len(client.get(f"/api/v1/jobs/{training.claim['job_id']}/checkpoints").json()) == 1
    assert sum(app.state.blobs.intact(sha256) for sha256 in kept) == 2, "the training's two files"
    assert tidy_due(app.state.sessions, settings) == 0


def test_what_cannot_be_is_refused_with_its_place_and_warned_of_where_asked(send, relax):
    found = send(0.9).json()["summary"]["structures"][0]["findings"]
    assert [(one["code"], one["atoms"], one["elements"]) for one in found] == [("atoms-overlap", [0, 1], ["Cu", "Cu"])]
    assert codes(relax("dataset:pair")) == {"/config/structures/0": "atoms-overlap"}
    told = relax("dataset:pair", config={"on_unphysical": "warn"}).json()["warnings"]
    assert "0.900 Å apart" in told[0]["message"]
    nothing = relax(config={"models": []}).json()["problems"]
    assert [one["message"] for one in nothing if one["pointer"] == "/config/models"] == [
        "/models: has 0 entries; at least 1"
    ]
    wrong = {"fmax": -1, "optimizer": "CG", "inline": [{"name": "a", "symbols": ["Cu"], "positions": []}]}
    assert codes(relax(config=wrong)) == {
        "/config/fmax": "greater-than",
        "/config/optimizer": "literal-error",
        "/config/inline/0": "value-error",
    }
    assert codes(relax("dataset:pair", determinism="fast")) == {"/determinism": "fixed-determinism"}


def test_a_form_that_no_engine_reads_is_refused_and_trainings_take_no_structures(send, client):
    assert codes(send(2.5, form="pictures")) == {"/form": "unknown-form"}
    assert send(2.5).status_code == 201
    config = {"model": {"type_map": ["Cu"], "descriptor": {"type": "se_e2_a", "sel": [30]}, "fitting_net": {}}}
    config |= {"training": {"training_data": {"systems": ["dataset:pair"]}, "numb_steps": 3}, "loss": {}}
    answer = client.post("/api/v1/jobs", json={"config": config, "engine": "deepmd"})
    assert "no-labels" in codes(answer).values()


@pytest.mark.parametrize(("runs", "shown"), [(1, 2), (3, 7), (4, 1)])
def test_many_runs_have_one_headline(send, relax, client, worker, runs, shown):
    send(2.5)
    job = relax("dataset:pair").json()["id"]
    named = [f"/pair.{number}" for number in range(runs)] if runs > 1 else [""]
    values = {f"relax/{key}{name}": [0.1] for key in ("fmax", "energy_per_atom") for name in named}
    values |= {"relax/run": [3.0]} if runs > 1 else {}
    assert worker.claim(job).metrics(0, [1], **values).status_code == 204
    headline = client.get(f"/api/v1/jobs/{job}").json()["progress"]["headline"]
    assert len(headline) == shown
    assert headline[0] == ("relax/run" if runs > 1 else "relax/fmax")
