"""Jobs that start from base models, from the submission to the claim. The engine is a stub, the rest is real."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.db import reading, transaction
from app.errors import Invalid
from app.fleet.upkeep import reap
from app.jobs import preparation, submission
from app.models import service as models
from app.tables import Attempt, BaseModel, Errand, Job, Worker
from app.tables.base import now
from app.wire.submission import JobSubmit
from tests.app.jobs.conftest import inspect, list_tensors, register, waiting
from tests.app.simulated import add_worker

pytestmark = pytest.mark.usefixtures("stub", "hurried")


@pytest.fixture
def worker(stub_worker):
    return stub_worker()


@pytest.fixture
def water(app, worker):
    """`water@1`, inspected."""
    row = register(app)
    inspect(app, worker)
    return row


@pytest.fixture
def gone(app, water):
    """`water@1`, and the worker that inspected it has died since."""
    kill_workers(app)


def kill_workers(app):
    with transaction(app.state.sessions) as session:
        session.execute(update(Worker).values(last_seen_at=now() - timedelta(hours=1)))


def body(config: dict[str, Any] | None = None, /, mode: str = "finetune", base: str = "water", **start: Any):
    return {"engine": "stub", "config": config or {}, "start": {"mode": mode, "base": base, **start}}


def post(client, *args: Any, key: str | None = None, **kwargs: Any):
    return client.post("/api/v1/jobs", json=body(*args, **kwargs), headers={"Idempotency-Key": key} if key else {})


def problems(answer) -> dict[str, dict[str, Any]]:
    assert answer.status_code == 422, answer.text
    return {problem["pointer"]: problem for problem in answer.json()["problems"]}


def checking_job(client, *args: Any, **kwargs: Any) -> int:
    answer = post(client, *args, **kwargs)
    assert answer.status_code == 201, answer.text
    assert answer.json()["state"] == "checking"
    return int(answer.json()["id"])


def show(client, job_id: int) -> dict[str, Any]:
    return client.get(f"/api/v1/jobs/{job_id}").json()


def timeline(client, job_id: int) -> list[tuple[str, str]]:
    return [(event["kind"], event["message"]) for event in client.get(f"/api/v1/jobs/{job_id}/events").json()]


def count(app, table) -> int:
    with reading(app.state.sessions) as session:
        return session.scalar(select(func.count()).select_from(table))


# --- queued at once ----------------------------------------------------------------------------------------------------


def test_a_job_whose_tensors_are_known_is_queued_with_its_plan(client, app, worker, water):
    checking_job(client)
    list_tensors(app, worker)
    job = post(client, {"cutoff": 9.0}).json()
    assert job["state"] == "queued"
    assert job["start"]["base"] == "water@1", "the version that was meant is pinned"
    assert (job["base"], job["base_sha256"]) == ("water@1", water.blob_sha256)
    assert job["resolved"]["width"] == 8
    assert job["origins"]["/width"]["origin"] == "base"
    assert job["plan"]["kept"] == 8
    assert job["plan"]["function_changes"][0]["pointer"] == "/cutoff"
    assert any("width = 8: inherited from water@1" in line for line in job["inheritance"])
    assert job["submitted"] == body({"cutoff": 9.0}), "what was sent stays as it was sent"
    assert job["progress"]["step"] == 0


def test_a_pinned_base_stays_when_a_newer_version_comes(client, app, worker, water):
    first = checking_job(client)
    register(app, content=b"better weights")
    inspect(app, worker)
    second = checking_job(client)
    third = checking_job(client, base="water@1")
    assert [show(client, job)["base"] for job in (first, second, third)] == ["water@1", "water@2", "water@1"]


def test_a_job_says_when_the_names_of_its_base_were_unwrapped(client, app, worker):
    register(app)
    found = "Its tensors were saved inside the wrapper of torch.compile, as `_orig_mod.`"
    inspect(app, worker, warnings=[{"code": "unwrapped", "message": found}, {"code": "no-library", "message": "old"}])
    [notice] = show(client, checking_job(client))["warnings"]
    assert (notice["code"], notice["pointer"]) == ("unwrapped", "/start/base")
    assert notice["message"] == f"water@1: {found}"


def test_a_submission_waits_for_the_list_of_tensors(client, app, settings, worker, water):
    settings.plan_wait_s = 20.0
    answers = []
    thread = threading.Thread(target=lambda: answers.append(post(client)))
    thread.start()
    while not waiting(app, "inventory"):
        time.sleep(0.01)
    list_tensors(app, worker)
    thread.join()
    assert answers[0].json()["state"] == "queued"
    assert answers[0].json()["plan"]["kept"] == 8


def test_a_submission_waits_for_the_inspection_of_its_base(client, app, settings, worker):
    register(app)
    settings.plan_wait_s = 20.0
    answers = []
    thread = threading.Thread(target=lambda: answers.append(post(client, mode="resume")))
    thread.start()
    inspect(app, worker, config={"width": 8, "steps": 500})
    thread.join()
    assert answers[0].json()["state"] == "queued"


# --- checking ------------------------------------------------------------------------------------------------------------


def test_a_job_is_kept_as_checking_until_its_tensors_are_listed(client, app, worker, water):
    job_id = checking_job(client)
    job = show(client, job_id)
    assert (job["plan"], job["base"]) == (None, "water@1")
    assert worker.try_claim(job_id).status_code == 409
    list_tensors(app, worker)
    job = show(client, job_id)
    assert job["state"] == "queued"
    assert job["plan"]["kept"] == 8
    kinds = timeline(client, job_id)
    assert [kind for kind, _ in kinds] == ["submitted", "queued"]
    assert "waits for a worker" in kinds[0][1]
    assert "8 of 8 parameters come from water@1" in kinds[1][1]
    assert worker.try_claim(job_id).status_code == 200


def test_the_doorbell_rings_when_the_plan_is_made(client, app, worker, water, monkeypatch):
    rung = []
    monkeypatch.setattr(app.state.doorbell, "ring", lambda *ring: rung.append(ring))
    job_id = checking_job(client)
    assert rung == []
    list_tensors(app, worker)
    assert rung == [("stub", job_id, 1, 1)]


def test_nobody_waits_when_no_worker_is_alive(client, app, settings, gone):
    settings.plan_wait_s = 60.0
    started = time.monotonic()
    job_id = checking_job(client)
    assert time.monotonic() - started < 30
    assert len(waiting(app, "inventory")) == 1
    assert show(client, job_id)["inheritance"]


def test_a_job_that_cannot_be_planned_fails_with_all_the_reasons(client, app, worker, water):
    job_id = checking_job(client, {"width": 4})
    list_tensors(app, worker)
    job = show(client, job_id)
    assert job["state"] == "failed"
    assert job["ended_at"] is not None
    cause = job["cause"]
    assert cause["failure"] == "configuration"
    assert "w is [4] here and [8] in water@1" in cause["message"]
    assert "start.allow" in cause["hint"]
    assert "/config/width" in cause["detail"]
    assert "and more" in cause["detail"]
    told = timeline(client, job_id)
    assert [kind for kind, _ in told] == ["submitted", "problem", "problem", "failed"]
    assert "and more" in told[2][1]


def test_a_job_whose_model_cannot_be_built_fails(client, app, worker, water):
    job_id = checking_job(client)
    (errand,) = (worker.take_errand(errand_id) for errand_id in waiting(app, "inventory"))
    errand.refuse("the library refuses this model")
    job = show(client, job_id)
    assert (job["state"], job["cause"]["failure"]) == ("failed", "configuration")
    assert "the library refuses this model" in job["cause"]["message"]
    answer = problems(post(client))
    assert "the library refuses this model" in answer["/config"]["message"]


def test_a_mistake_of_ours_in_one_plan_costs_no_other_job(client, app, worker, water, stub, caplog):
    good = checking_job(client)
    bad = checking_job(client)
    with transaction(app.state.sessions) as session:
        job = session.get(Job, bad)
        job.start = {**job.start, "branch": "bug"}
    list_tensors(app, worker)
    assert show(client, good)["state"] == "queued"
    assert show(client, bad)["state"] == "failed"
    assert "a mistake of Cairn's" in show(client, bad)["cause"]["message"]


def test_jobs_of_equal_models_share_one_errand(client, app, worker, water):
    jobs = [checking_job(client, {"steps": steps}) for steps in (10, 20)]
    assert len(list_tensors(app, worker)) == 1
    assert [show(client, job)["state"] for job in jobs] == ["queued", "queued"]


def test_a_job_that_was_cancelled_while_checking_stays_cancelled(client, app, worker, water):
    job_id = checking_job(client)
    assert client.post(f"/api/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    list_tensors(app, worker)
    assert show(client, job_id)["state"] == "cancelled"
    assert show(client, job_id)["plan"] is None


def test_an_errand_that_ended_between_preparing_and_storing_is_used(client, app, settings, worker, water):
    prepared = prepare(app, settings, body())
    assert prepared.needs_plan
    list_tensors(app, worker)
    assert store(app, prepared).state == "queued"
    refused = prepare(app, settings, body({"width": 4}))
    list_tensors(app, worker)
    with pytest.raises(Invalid, match=r"w is \[4\] here"):
        store(app, refused)


def prepare(app, settings, document):
    return preparation.prepare(app.state.sessions, settings, app.state.blobs, JobSubmit.model_validate(document))


def store(app, prepared) -> Job:
    with transaction(app.state.sessions) as session:
        return submission.create(session, prepared, submission.SubmitRequest({"config": {}}, "d", None))[0]


def test_a_base_that_was_deleted_meanwhile_is_refused(client, app, settings, worker, water):
    prepared = prepare(app, settings, body())
    with transaction(app.state.sessions) as session:
        models.delete(session, session.get(BaseModel, water.id))
    with pytest.raises(Invalid, match="water@1 was deleted just now"):
        store(app, prepared)


def test_a_repeated_key_returns_the_job_that_is_checking(client, app, worker, water):
    first = post(client, key="k")
    list_tensors(app, worker)
    again = post(client, key="k")
    assert (first.status_code, again.status_code) == (201, 200)
    assert (first.json()["state"], again.json()["state"]) == ("checking", "queued")
    assert first.headers["Location"] == again.headers["Location"] == f"/api/v1/jobs/{first.json()['id']}"


def test_a_form_may_start_from_a_base_too(client, app, worker, water):
    fields = {"config": '{"steps": 7}', "engine": "stub", "start": '{"mode": "init", "base": "water@1"}'}
    answer = client.post("/api/v1/jobs", files={name: (None, text) for name, text in fields.items()})
    assert answer.status_code == 201, answer.text
    assert (answer.json()["base"], answer.json()["progress"]["total_steps"]) == ("water@1", 7)


# --- bases that cannot be used ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "code", "message", "hint"),
    [
        ("Water 3", "bad-base", "'Water 3' names neither", "water@3"),
        ("job:x", "bad-base", "'job:x' names neither", "job:17@4000"),
        ("watr", "no-such-model", "no base model watr", "Did you mean: water?"),
        ("watr", "no-such-model", "no base model watr", "cairn model add FILE --name watr"),
        ("water@7", "no-such-model", "no base model water@7", "water@1"),
        ("1", "no-such-model", "no base model 1", "cairn model add"),
        ("job:99", "no-such-job", "no job 99", "cairn ls"),
        ("copper", "wrong-engine", "copper@1 is a model of deepmd, but the submission is for stub", "engine: deepmd"),
        ("broken", "base-refused", "broken@1 cannot be used: it is no file of weights", None),
    ],
)
def test_a_base_that_cannot_be_used_is_told_with_every_other_mistake(
    client, app, worker, water, base, code, message, hint
):
    register(app, "broken", b"noise")
    for errand_id in waiting(app, "inspect"):
        worker.take_errand(errand_id).refuse()
    register(app, "copper", b"weights of copper", engine="deepmd")
    found = problems(post(client, {"widht": 4}, base=base))
    assert found.keys() == {"/start/base", "/config/widht"}
    assert found["/start/base"]["code"] == code
    assert message in found["/start/base"]["message"]
    assert (hint or "") in found["/start/base"].get("hint", "")
    assert count(app, Job) == 0


def test_a_base_that_no_worker_looks_into_is_not_ready(client, app, stub):
    register(app)
    found = problems(post(client, {"widht": 4}))
    assert found.keys() == {"/start/base", "/config/widht"}
    assert found["/start/base"]["code"] == "base-not-ready"
    assert "no worker of stub is alive" in found["/start/base"]["message"]
    assert "cairn up" in found["/start/base"]["hint"]


def test_a_base_that_a_worker_still_looks_into_is_not_ready(client, app, worker):
    register(app)
    problem = problems(post(client))["/start/base"]
    assert problem["code"] == "base-not-ready"
    assert "still looking" in problem["message"]
    assert "again" in problem["hint"]


def test_problems_of_the_plan_are_told_at_once_when_the_tensors_are_known(client, app, worker, water):
    checking_job(client, {"width": 4})
    list_tensors(app, worker)
    answer = post(client, {"width": 4})
    assert [problem["code"] for problem in answer.json()["problems"]] == ["shape-mismatch", "another"]
    assert problems(answer).keys() == {"/config/width"}
    allowed = post(client, {"width": 4}, allow=["width"]).json()
    assert (allowed["state"], allowed["plan"]["counts"]) == ("queued", {"reinitialised": 1})


def test_a_wrong_branch_is_told_at_its_place(client, water):
    assert problems(post(client, branch="H2O")).keys() == {"/start/branch"}


@pytest.mark.parametrize("mode", ["init", "finetune", "resume"])
def test_a_mode_without_a_base_is_refused(client, mode):
    answer = client.post("/api/v1/jobs", json={"engine": "stub", "config": {"x": 1}, "start": {"mode": mode}})
    assert problems(answer).keys() == {"/start", "/config/x"}


def test_a_base_without_a_mode_is_refused(client, water):
    answer = client.post("/api/v1/jobs", json={"engine": "stub", "config": {}, "start": {"base": "water"}})
    assert problems(answer).keys() == {"/start/base"}


# --- checkpoints of jobs ---------------------------------------------------------------------------------------------


@pytest.fixture
def trained(client, worker):
    """A job with checkpoints of steps 20 and 40."""
    job = client.post("/api/v1/jobs", json={"engine": "stub", "config": {"steps": 100}, "seed": 77}).json()
    attempt = worker.claim(job["id"])
    for step in (20, 40):
        assert attempt.checkpoint(step).status_code == 200
    attempt.end("interrupted", 40)
    client.post(f"/api/v1/jobs/{job['id']}/cancel")
    return int(job["id"])


def resumable(app, worker, step: int = 40):
    inspect(app, worker, step=step, config={"steps": 100, "width": 8}, has_optimizer=True)


@pytest.mark.parametrize(("suffix", "step"), [("", 40), ("@20", 20)])
def test_a_checkpoint_of_a_job_becomes_a_base_model(client, app, worker, trained, suffix, step):
    refused = problems(post(client, base=f"job:{trained}{suffix}"))
    assert refused["/start/base"]["code"] == "base-not-ready", "it was promoted, and is not inspected yet"
    inspect(app, worker)
    job = show(client, checking_job(client, base=f"job:{trained}{suffix}"))
    assert job["base"] == job["start"]["base"] == f"job-{trained}@1"
    with reading(app.state.sessions) as session:
        row = session.scalar(select(BaseModel))
        assert (row.job_id, row.step) == (trained, step)
    checking_job(client, base=f"job:{trained}{suffix}")
    assert count(app, BaseModel) == 1


def test_a_checkpoint_whose_inspection_took_too_long_is_inspected_again(client, app, worker, trained):
    post(client, base=f"job:{trained}")
    [errand_id] = waiting(app, "inspect")
    worker.take_errand(errand_id).answer(problem={"code": "took-too-long", "message": "it took longer than 270 s"})
    again = problems(post(client, base=f"job:{trained}"))["/start/base"]
    assert again["code"] == "base-not-ready"
    inspect(app, worker)
    assert checking_job(client, base=f"job:{trained}")


def test_a_step_that_is_not_there_is_told_with_those_that_are(client, trained):
    problem = problems(post(client, base=f"job:{trained}@30"))["/start/base"]
    assert problem["code"] == "no-checkpoint"
    assert "40, 20" in problem["hint"]


def test_a_job_without_checkpoints_is_no_base(client, app, worker):
    job_id = client.post("/api/v1/jobs", json={"engine": "stub", "config": {}}).json()["id"]
    problem = problems(post(client, base=f"job:{job_id}"))["/start/base"]
    assert problem["code"] == "no-checkpoint"
    assert "first checkpoint" in problem["hint"]


def test_resuming_goes_on_with_seed_config_and_step_of_the_base(client, app, worker, trained):
    post(client, base=f"job:{trained}")
    resumable(app, worker)
    job = post(client, {"steps": 200}, mode="resume", base=f"job:{trained}").json()
    assert job["state"] == "queued", "nothing has to be planned"
    assert (job["seed"], job["resolved"]["width"], job["plan"]) == (77, 8, None)
    assert (job["progress"]["step"], job["progress"]["total_steps"]) == (40, 200)
    assert count(app, Errand) == 1, "no list of tensors was ordered"
    hints = check(client, {"steps": 200}, mode="resume", base=f"job:{trained}")["hints"]
    size = len(b"weights of step 40")
    assert hints == {"steps": 200, "frames": 0, "entries": 0, "parameters": 8, "checkpoint_bytes": size}
    assert count(app, Errand) == 1
    other = client.post("/api/v1/jobs", json=body({"steps": 200}, mode="resume", base=f"job:{trained}") | {"seed": 5})
    assert problems(other).keys() == {"/seed"}


def test_a_resumed_training_goes_on_with_as_many_ranks(client, app, worker, trained):
    post(client, base=f"job:{trained}")
    resumable(app, worker)
    resume = body({"steps": 200}, mode="resume", base=f"job:{trained}")
    problem = problems(client.post("/api/v1/jobs", json=resume | {"resources": {"gpus": 2}}))["/resources/gpus"]
    assert problem["message"].startswith("resources.gpus is 2, but job-1@1 was trained with 1: ")
    assert problem["hint"] == "Ask for 1, or choose mode init for a new training from these weights."


# --- the claim --------------------------------------------------------------------------------------------------------


def test_an_execution_is_given_base_and_plan_until_it_has_a_checkpoint(client, app, worker, water):
    job_id = checking_job(client)
    list_tensors(app, worker)
    attempt = worker.claim(job_id)
    assert attempt.claim["start"]["mode"] == "finetune"
    assert attempt.claim["base"] == {
        "name": "water@1",
        "file_name": "water.pt",
        "sha256": water.blob_sha256,
        "size": water.size,
    }
    assert attempt.claim["plan"] == show(client, job_id)["plan"]
    assert attempt.claim["resume_from"] is None
    assert attempt.send("GET", f"/api/v1/worker/blobs/{water.blob_sha256}").content == b"weights of water"
    assert "from the base water@1" in timeline(client, job_id)[-1][1]
    attempt.checkpoint(20)
    attempt.end("interrupted", 20)
    again = worker.claim(job_id, 2).claim
    assert (again["base"], again["plan"]) == (None, None)
    assert again["resume_from"]["step"] == 20


def test_only_the_base_of_the_own_job_is_readable(client, app, worker, water):
    client.post("/api/v1/jobs", json={"engine": "stub", "config": {}})
    attempt = worker.claim(1)
    assert attempt.claim["base"] is None
    assert attempt.claim["plan"] is None
    assert attempt.send("GET", f"/api/v1/worker/blobs/{water.blob_sha256}").status_code == 403


@pytest.fixture
def resumed(client, app, worker, trained):
    """A job that resumes the checkpoint of step 40."""
    post(client, base=f"job:{trained}")
    resumable(app, worker)
    return int(post(client, {"steps": 200}, mode="resume", base=f"job:{trained}").json()["id"])


def test_a_resumed_training_goes_on_from_its_base_and_then_from_its_own_checkpoints(client, app, worker, resumed):
    attempt = worker.claim(resumed)
    granted = attempt.claim["resume_from"]
    assert (granted["step"], attempt.claim["base"], attempt.claim["plan"]) == (40, None, None)
    (file,) = granted["files"]
    assert (file["name"], file["role"]) == ("model.ckpt-40.pt", "checkpoint")
    assert attempt.send("GET", f"/api/v1/worker/blobs/{file['sha256']}").content == b"weights of step 40"
    job = show(client, resumed)
    assert (job["progress"]["step"], job["attempts"][0]["start_step"]) == (40, 40)
    assert "from step 40 of job-1@1" in timeline(client, resumed)[-1][1]
    attempt.heartbeat(55)
    attempt.end("interrupted", 55)
    assert show(client, resumed)["progress"]["step"] == 40, "what came after the base is lost"
    second = worker.claim(resumed, 2)
    assert second.claim["resume_from"]["step"] == 40
    second.checkpoint(60)
    second.end("interrupted", 70)
    assert show(client, resumed)["progress"]["step"] == 60
    assert worker.claim(resumed, 3).claim["resume_from"]["step"] == 60


def test_executions_that_die_before_a_checkpoint_beyond_the_base_count(client, app, settings, worker, resumed):
    settings.max_attempts = 2
    for number in (1, 2):
        with transaction(app.state.sessions) as session:
            session.execute(update(Job).where(Job.id == resumed).values(not_before=None))
        worker.claim(resumed, number)
        with transaction(app.state.sessions) as session:
            session.execute(update(Attempt).values(lease_expires_at=now() - timedelta(seconds=1)))
        reap(app.state.sessions, settings)
    assert show(client, resumed)["state"] == "failed"


# --- the check --------------------------------------------------------------------------------------------------------


def check(client, *args: Any, **kwargs: Any) -> dict[str, Any]:
    answer = client.post("/api/v1/configs/resolve", json=body(*args, **kwargs))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_check_says_what_a_job_would_become_and_stores_none(client, app, worker, water):
    check(client)
    list_tensors(app, worker)
    found = check(client, {"cutoff": 9.0})
    job = post(client, {"cutoff": 9.0}).json()
    for key in ("plan", "base", "base_sha256", "start", "origins", "inheritance"):
        assert found[key] == job[key], key
    assert found["config"] == job["resolved"]
    assert found["plan_pending"] is None
    assert count(app, Job) == 1


def test_a_check_counts_what_the_training_takes(client, app, worker, water):
    check(client)
    list_tensors(app, worker)
    # 8 weights of 8 bytes and a buffer of 2 × 4 bytes; Adam keeps two more numbers for each weight.
    size = 8 * 8 + 2 * 4 + 2 * 8 * 8
    hints = {"steps": 100, "frames": 0, "entries": 0, "parameters": 8, "checkpoint_bytes": size}
    assert check(client)["hints"] == hints


@pytest.mark.parametrize(("alive", "why"), [(True, "a worker is listing"), (False, "no worker of stub is alive")])
def test_a_check_says_why_there_is_no_plan_yet(client, app, worker, water, alive, why):
    if not alive:
        kill_workers(app)
    found = check(client)
    assert found["plan"] is None
    assert why in found["plan_pending"]
    assert found["hints"]["parameters"] is None
    assert found["inheritance"], "everything else is there"


def test_a_check_from_scratch_has_no_plan_and_lists_parameters_once_known(client, app, worker):
    submit = {"engine": "stub", "config": {"width": 3}}
    first = client.post("/api/v1/configs/resolve", json=submit).json()
    assert (first["plan"], first["plan_pending"], first["hints"]["parameters"]) == (None, None, None)
    list_tensors(app, worker)
    again = client.post("/api/v1/configs/resolve", json=submit).json()
    assert again["hints"]["parameters"] == 3


def test_a_job_from_scratch_waits_for_nothing(client, app, worker):
    job = client.post("/api/v1/jobs", json={"engine": "stub", "config": {}}).json()
    assert (job["state"], job["base"], job["plan"]) == ("queued", None, None)
    assert count(app, Errand) == 0


def test_a_check_counts_frames_of_training_data_only(client, app, stub, copper):
    with transaction(app.state.sessions) as session:
        session.merge(copper).engine = "stub"
    config = {"data": ["dataset:copper/md"], "test": ["dataset:copper"]}
    submit = {"engine": "stub", "config": config}
    assert client.post("/api/v1/configs/resolve", json=submit).json()["hints"]["frames"] == 10


def test_data_of_another_engine_is_told_at_its_place(client, copper):
    answer = client.post("/api/v1/jobs", json={"engine": "stub", "config": {"test": ["dataset:copper"]}})
    assert problems(answer).keys() == {"/config/test/0"}


# --- the same with DeePMD-kit's own half ------------------------------------------------------------------------------


def test_a_deepmd_training_is_resumed_by_saying_only_how_long(client, app, worker_client, submit):
    first = submit(seed=11)
    deepmd = add_worker(worker_client, "one")
    attempt = deepmd.claim(first["id"])
    attempt.checkpoint(400)
    attempt.end("interrupted", 400)
    client.post(f"/api/v1/jobs/{first['id']}/cancel")
    start = {"mode": "resume", "base": f"job:{first['id']}"}
    longer = {"config": {"training": {"numb_steps": 2000}}, "start": start}
    assert problems(client.post("/api/v1/jobs", json=longer))["/start/base"]["code"] == "base-not-ready"
    model = first["resolved"]["model"]
    found = {
        "engine": "deepmd",
        "branches": [{"name": "", "type_map": ["Cu"], "model": model, "parameters": 6}],
        "config": first["resolved"],
        "step": 400,
        "seed": 11,
        "seeds": first["seeds"],
        "has_optimizer": True,
    }
    inspect(app, deepmd, **found)
    job = client.post("/api/v1/jobs", json=longer).json()
    assert job["state"] == "queued", job
    assert job["resolved"]["model"] == model
    assert job["datasets"] == ["dataset:copper@1"]
    assert job["origins"]["/model/descriptor/rcut"]["origin"] == "base"
    assert job["origins"]["/training/numb_steps"]["origin"] == "explicit"
    assert (job["seed"], job["progress"]["step"], job["progress"]["total_steps"]) == (11, 400, 2000)
    assert deepmd.claim(job["id"]).claim["resume_from"]["step"] == 400
    shorter = {"config": {"training": {"numb_steps": 300}}, "start": start}
    assert problems(client.post("/api/v1/jobs", json=shorter)).keys() == {"/config/training/numb_steps"}
    diff = client.get(f"/api/v1/jobs/{first['id']}/diff/{job['id']}").json()
    assert "/training/numb_steps" in {one["pointer"] for one in diff["values"]}
    found = client.get("/api/v1/jobs", params={"where": ["base:descriptor.rcut = 5", "numb_steps = 2000"]}).json()
    assert [one["id"] for one in found["items"]] == [job["id"]]
