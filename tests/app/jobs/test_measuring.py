"""Trainings on held-out data: tests submitted by themselves, found again, compared; equal tasks answered by one job."""

import copy

import pytest

from app.db import reading, transaction
from app.errors import Unavailable
from app.fleet.upkeep import submit_due
from app.jobs import beginning, control, measuring
from app.tables import Dataset
from app.wire.control import Extend
from app.wire.measuring import ErrorReport, ModelErrors, Quantity
from tests.app.jobs.conftest import inspect, register

HELD_OUT = "dataset:copper/md"
QUANTITY = Quantity(key="rmse_f", title="Force RMSE", unit="eV/Å")


@pytest.fixture
def train(submit, worker):
    """Let a training complete with a checkpoint of step 1000; return its number."""

    def train(seed, **options):
        attempt = worker.claim(submit(seed=seed, **options)["id"])
        attempt.checkpoint(1000, data=f"weights of {seed}".encode())
        assert attempt.end("completed", 1000).status_code == 200
        return attempt.claim["job_id"]

    return train


def of_several_tasks(config, *tasks):
    """Return a config that trains the model of `config` as each of these tasks."""
    several = copy.deepcopy(config)
    model, training = several.pop("model"), several["training"]
    branch = {"type_map": "types", "descriptor": "both", "fitting_net": model["fitting_net"]}
    shared = {"types": model["type_map"], "both": {**model["descriptor"], "type": "se_atten_v2", "sel": 72}}
    data = {key: training.pop(key) for key in ("training_data", "validation_data") if key in training}
    return several | {
        "model": {"shared_dict": shared, "model_dict": dict.fromkeys(tasks, branch)},
        "loss_dict": dict.fromkeys(tasks, several.pop("loss")),
        "training": training | {"data_dict": dict.fromkeys(tasks, data), "model_prob": dict.fromkeys(tasks, 1.0)},
    }


@pytest.fixture
def upkeep(app, settings):
    """Do a round of what upkeep does with trainings that have completed."""
    return lambda: submit_due(app.state.sessions, settings)


def finish(worker, job_id, **overall):
    """Let a test complete with these errors of its models."""
    attempt = worker.claim(job_id)
    models = [ModelErrors(model=one["name"], sha256=one["sha256"], overall=overall) for one in attempt.claim["models"]]
    report = ErrorReport(library="l", data=attempt.claim["config"]["data"], quantities=[QUANTITY], models=models)
    about = attempt.upload(report.model_dump_json().encode()) | {"name": "test.json", "media_type": "application/json"}
    assert attempt.send("POST", f"{attempt.path}/files", json=about).status_code == 204
    assert attempt.end("completed", 10).status_code == 200


def measured_of(client, *jobs):
    return client.get(f"/api/v1/jobs/{jobs[0]}/tests" + "".join(f"/{job}" for job in jobs[1:])).json()


def test_a_training_is_tested_once_it_has_completed(client, train, upkeep, worker):
    job_id = train(1, test_on=[HELD_OUT])
    job = client.get(f"/api/v1/jobs/{job_id}").json()
    assert job["test_on"] == ["dataset:copper@1/md"]
    assert (upkeep(), upkeep()) == (1, 0)
    (waiting,) = measured_of(client, job_id)
    assert (waiting["state"], waiting["step"], waiting["errors"]) == ("queued", 1000, {})
    test = client.get(f"/api/v1/jobs/{waiting['job']}").json()
    assert (test["kind"], test["resolved"]["models"]) == ("test", [f"job:{job_id}@1000"])
    assert test["name"] == f"{job['name']}@1000 on copper@1/md"
    finish(worker, test["id"], rmse_f=0.25)
    (measured,) = measured_of(client, job_id)
    assert (measured["errors"], measured["data"]) == ({"rmse_f": 0.25}, ["dataset:copper@1/md"])
    after = client.get(f"/api/v1/jobs/{job_id}").json()
    assert after["test_on"] == []
    events = client.get(f"/api/v1/jobs/{job_id}/events").json()
    assert [event["data"]["job"] for event in events if event["kind"] == "measured"] == [test["id"]]


def test_each_task_of_several_is_tested_on_its_own_data(client, config, train, upkeep, worker):
    several = of_several_tasks(config, "metal", "alloy")
    job_id = train(1, config=several, test_on=[f"metal={HELD_OUT}", f"alloy={HELD_OUT}"])
    assert client.get(f"/api/v1/jobs/{job_id}").json()["test_on"] == [
        "metal=dataset:copper@1/md",
        "alloy=dataset:copper@1/md",
    ]
    assert upkeep() == 2
    tests = {row["head"]: row["job"] for row in measured_of(client, job_id)}
    for head, number in tests.items():
        job = client.get(f"/api/v1/jobs/{number}").json()
        assert (job["resolved"]["head"], job["name"].endswith(f" ({head}) on copper@1/md")) == (head, True)
        finish(worker, number, rmse_f=0.1 * len(head))
    alone = train(2, test_on=[HELD_OUT])
    assert upkeep() == 1
    finish(worker, measured_of(client, alone)[0]["job"], rmse_f=0.2)
    pairs = measured_of(client, job_id, alone)
    assert {pair["left"]["head"] for pair in pairs} == {"metal", "alloy"}, "each task beside the one model"
    again = measured_of(client, job_id, job_id)
    assert all(pair["left"]["head"] == pair["right"]["head"] for pair in again), "tasks by their names"
    assert len(again) == 2


def steps_of(client, job_id):
    return sorted(row["step"] for row in measured_of(client, job_id))


def test_chosen_checkpoints_are_tested_as_soon_as_they_are_there(client, submit, worker, upkeep, config):
    config["training"] |= {"numb_steps": 1000, "save_freq": 100}
    job_id = submit(seed=1, config=config, test_on=[HELD_OUT], test_at=[300, 1000], test_every=400)["id"]
    attempt = worker.claim(job_id)
    assert attempt.claim["checkpoints"]["keep_every"] == 100, "a worker that is behind leaves none of them out"
    for step, tests in ((200, 0), (300, 1), (400, 1), (500, 0), (400, 0)):
        attempt.checkpoint(step, data=f"weights of {step}".encode())
        assert upkeep() == tests, step
        assert upkeep() == 0, "once"
    assert steps_of(client, job_id) == [300, 400]
    attempt.checkpoint(1000)
    assert upkeep() == 1
    attempt.end("completed", 1000)
    upkeep()
    assert steps_of(client, job_id) == [300, 400, 1000], "the last one once, though it was chosen"
    after = client.get(f"/api/v1/jobs/{job_id}").json()
    assert (after["test_on"], after["test_at"], after["test_every"]) == ([], [], None)


def test_a_chosen_checkpoint_is_kept_until_its_test_is_there(client, submit, worker, upkeep, config):
    config["training"] |= {"numb_steps": 1000, "save_freq": 100}
    checkpoints = {"keep_last": 2}
    attempt = worker.claim(submit(config=config, test_on=[HELD_OUT], test_at=[100], checkpoints=checkpoints)["id"])
    job_id = attempt.claim["job_id"]

    def kept():
        return {row["step"]: row["kept"] for row in client.get(f"/api/v1/jobs/{job_id}/checkpoints").json()}

    for step in (100, 200, 300, 400):
        attempt.checkpoint(step, data=f"weights of {step}".encode())
    assert kept() == {100: ["to be tested"], 300: ["newest"], 400: ["newest"]}
    assert upkeep() == 1
    (test,) = measured_of(client, job_id)
    assert kept()[100] == [f"model of job {test['job']}"]


def test_steps_chosen_later_are_tested_as_far_as_they_are_there(client, submit, worker, upkeep, config):
    config["training"] |= {"numb_steps": 1000, "save_freq": 100}
    attempt = worker.claim(submit(config=config, checkpoints={"keep_last": 2})["id"])
    job_id = attempt.claim["job_id"]
    for step in (100, 200, 300):
        attempt.checkpoint(step, data=f"weights of {step}".encode())

    def name(**steps):
        return client.put(f"/api/v1/jobs/{job_id}/test-on", json={"data": [HELD_OUT], **steps})

    gone = name(at=[300, 100]).json()
    assert (gone["code"], gone["pointer"], gone["hint"]) == ("no-checkpoint", "/at/1", "There are 200, 300.")
    never = [(one["code"], one["pointer"], one["hint"]) for one in name(at=[150]).json()["problems"]]
    assert never == [("no-checkpoint", "/at/0", "Write 100.")]
    assert name(at=[300, 400]).json()["test_at"] == [300, 400]
    assert upkeep() == 1
    assert name(every=100).json()["test_every"] == 100
    assert upkeep() == 2, "300 is answered by the test that is there"
    assert steps_of(client, job_id) == [200, 300]


def test_what_is_named_during_a_round_is_tested_by_the_next(app, client, submit, worker, upkeep, config):
    config["training"] |= {"numb_steps": 1000, "save_freq": 100}
    attempt = worker.claim(submit(config=config, test_on=[HELD_OUT], test_at=[100])["id"])
    job_id = attempt.claim["job_id"]
    attempt.checkpoint(100, data=b"100")
    attempt.checkpoint(1000, data=b"1000")
    attempt.end("completed", 1000)
    with reading(app.state.sessions) as session:
        found = measuring._round(session, job_id)
    both = {"data": [HELD_OUT, "dataset:copper"], "at": [100]}
    assert client.put(f"/api/v1/jobs/{job_id}/test-on", json=both).status_code == 200
    with transaction(app.state.sessions) as session:
        measuring._settle(session, found)
    assert (upkeep(), upkeep()) == (4, 0)
    assert steps_of(client, job_id) == [100, 100, 1000, 1000]


def test_while_a_part_is_away_nothing_is_given_up(client, submit, worker, upkeep, config, monkeypatch):
    config["training"] |= {"numb_steps": 1000, "save_freq": 100}
    checkpoints = {"keep_last": 2}
    attempt = worker.claim(submit(config=config, test_on=[HELD_OUT], test_at=[100], checkpoints=checkpoints)["id"])
    attempt.checkpoint(100, data=b"100")

    def away(*_):
        raise Unavailable("the store does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(measuring.intake, "prepare", away)
        assert upkeep() == 0
    for step in (200, 300, 400):
        attempt.checkpoint(step, data=f"weights of {step}".encode())
    assert upkeep() == 1
    assert steps_of(client, attempt.claim["job_id"]) == [100]


def test_a_twin_says_which_chosen_steps_it_has_no_more(client, submit, worker, upkeep, config):
    config["training"] |= {"numb_steps": 1000, "save_freq": 100}
    attempt = worker.claim(submit(seed=1, config=config, checkpoints={"keep_last": 2})["id"])
    for step in (300, 900, 1000):
        attempt.checkpoint(step, data=f"weights of {step}".encode())
    attempt.end("completed", 1000)
    again = {"config": config, "seed": 1, "on_existing": "reuse", "test_on": [HELD_OUT], "test_at": [300, 900]}
    job_id = client.post("/api/v1/jobs", json=again).json()["id"]
    assert job_id == attempt.claim["job_id"]
    (told,) = (e for e in client.get(f"/api/v1/jobs/{job_id}/events").json() if e["kind"] == "warning")
    assert told["message"].endswith("job 1 has no checkpoint of step 300 any more")
    assert upkeep() == 2
    assert steps_of(client, job_id) == [900, 1000]


@pytest.mark.parametrize(
    ("wrong", "code", "pointer", "hint"),
    [
        ({"test_at": [300, 350]}, "no-checkpoint", "/test_at/1", "Write 300, or set `checkpoints.every_steps`."),
        ({"test_at": [1100]}, "out-of-range", "/test_at/0", "Choose one of its steps."),
        ({"test_every": 2000}, "out-of-range", "/test_every", "Choose fewer steps, or leave it out."),
        ({"test_every": 250}, "no-checkpoint", "/test_every", "Write 300, or another multiple."),
        ({"test_every": 300, "test_on": []}, "contradiction", "/test_every", "Name some in test_on."),
        ({"test_at": [0]}, "greater-than-equal", "/test_at/0", None),
    ],
)
def test_steps_without_a_checkpoint_are_refused(client, config, copper, wrong, code, pointer, hint):
    config["training"] |= {"numb_steps": 1000, "save_freq": 100}
    problem = client.post("/api/v1/jobs", json={"config": config, "test_on": [HELD_OUT], **wrong}).json()
    assert (problem["code"], problem["pointer"], problem.get("hint")) == (code, pointer, hint), problem


def test_what_decides_when_checkpoints_are_written_decides_which_can_be_chosen(client, config, copper):
    config["training"] |= {"numb_steps": 1000, "save_freq": 100}
    body = {"config": config, "test_on": [HELD_OUT], "test_at": [350], "checkpoints": {"every_steps": 50}}
    assert client.post("/api/v1/configs/resolve", json=body).status_code == 200


def test_an_extension_is_tested_on_the_same(app, train, upkeep):
    def named():
        with reading(app.state.sessions) as session:
            begin = beginning.find(session, app.state.blobs, job_id)
            extension = control.extension(session, job_id, Extend(steps=2000), begin)
            return extension["test_on"], extension["test_at"], extension["test_every"]

    job_id = train(1, test_on=[HELD_OUT], test_at=[1000], test_every=1000)
    assert named() == (["dataset:copper@1/md"], [], 1000), "its own steps are still to come"
    assert upkeep() == 1
    assert named() == ([HELD_OUT], [], 1000), "as it was asked for"


def test_a_twin_that_is_the_answer_is_tested_on_what_was_asked(client, config, train, upkeep):
    job_id = train(1)
    again = {"config": config, "seed": 1, "on_existing": "reuse", "test_on": [HELD_OUT]}
    for _ in range(2):
        answer = client.post("/api/v1/jobs", json=again)
        assert (answer.status_code, answer.json()["id"]) == (200, job_id), answer.text
        assert answer.json()["test_on"] == ["dataset:copper@1/md"]
        assert upkeep() == 1
        assert len(measured_of(client, job_id)) == 1, "the second time it is tested already"
    client.post("/api/v1/jobs", json=again)
    chosen = client.post("/api/v1/jobs", json=again | {"test_at": [1000], "test_every": 1000}).json()
    told = client.get(f"/api/v1/jobs/{job_id}/events").json()[-1]["message"]
    assert "on dataset:copper@1/md at every 1000 steps and at step 1000, too" in told, "its data were named already"
    assert (chosen["test_at"], chosen["test_every"]) == ([1000], 1000)
    assert upkeep() == 1
    assert len(measured_of(client, job_id)) == 1
    group = {"config": config, "seed": 3, "replicas": 2}
    first = client.post("/api/v1/jobs", json=group).json()
    assert client.post("/api/v1/jobs", json={**again, **group}).json()["id"] == first["id"]
    jobs = client.get("/api/v1/jobs", params={"group": first["group"]}).json()["items"]
    named = [client.get(f"/api/v1/jobs/{job['id']}").json()["test_on"] for job in jobs]
    assert named == [["dataset:copper@1/md"]] * 2, "each replica"


def test_data_can_be_named_later_and_two_trainings_are_compared_on_them(client, train, upkeep, worker):
    first, second = train(1), train(2)
    for job_id, error in ((first, 0.3), (second, None)):
        answer = client.put(f"/api/v1/jobs/{job_id}/test-on", json={"data": [HELD_OUT]})
        assert answer.json()["test_on"] == ["dataset:copper@1/md"], answer.text
        assert upkeep() == 1
        assert measured_of(client, first, second) == [], "not both have been measured"
        finish(worker, measured_of(client, job_id)[0]["job"], rmse_f=error)
    (pair,) = measured_of(client, first, second)
    assert [pair[side]["errors"]["rmse_f"] for side in ("left", "right")] == [0.3, None]
    other = client.post(
        "/api/v1/jobs",
        json={"kind": "test", "config": {"models": [f"job:{first}"], "data": [HELD_OUT], "numb_test": 2}},
    )
    finish(worker, other.json()["id"], rmse_f=9.9)
    assert len(measured_of(client, first, second)) == 1, "fewer frames are other data"


def test_two_trainings_are_compared_at_equal_steps_too(client, submit, worker, upkeep, config):
    config["training"] |= {"numb_steps": 1000, "save_freq": 100}
    jobs = []
    for seed, steps in ((1, (100, 200, 300)), (2, (100, 200, 400))):
        attempt = worker.claim(submit(seed=seed, config=config, test_on=[HELD_OUT], test_every=100)["id"])
        jobs.append(attempt.claim["job_id"])
        for step in steps:
            attempt.checkpoint(step, data=f"weights of {seed} at {step}".encode())
        assert upkeep() == 3
        for row in measured_of(client, jobs[-1]):
            finish(worker, row["job"], rmse_f=seed / row["step"])
    pairs = [(pair["left"]["step"], pair["right"]["step"]) for pair in measured_of(client, *jobs)]
    assert pairs == [(300, 400), (200, 200), (100, 100)]


def test_what_could_not_be_measured_is_refused_before_the_training(client, config, copper):
    wrong = ["dataset:silver", "/data/x", "dataset:copper/ice"]
    answer = client.post("/api/v1/jobs", json={"config": config, "test_on": wrong})
    found = {problem["pointer"]: problem["code"] for problem in answer.json()["problems"]}
    codes = ("unknown-dataset", "data-not-a-dataset", "unknown-system")
    assert found == {f"/test_on/{index}": code for index, code in enumerate(codes)}


def test_data_that_are_trained_on_are_no_held_out_data(client, config, copper):
    def warned(*test_on, replicas=1):
        body = {"config": config, "test_on": list(test_on), "replicas": replicas}
        answer = client.post("/api/v1/configs/resolve", json=body)
        return [one["pointer"] for one in answer.json()["warnings"] if one["code"] == "overlap"]

    config["training"]["training_data"]["systems"] = ["dataset:copper/md"]
    assert warned("dataset:copper", HELD_OUT) == ["/test_on/0", "/test_on/1"]
    assert warned(HELD_OUT, replicas=2) == ["/test_on/0"]
    assert warned() == []


def test_data_of_another_engine_are_refused(app, client, config, copper):
    with transaction(app.state.sessions) as session:
        session.get_one(Dataset, copper.id).engine = "minimind"
        values = {name: getattr(copper, name) for name in ("digest", "blob_sha256", "size", "source", "summary")}
        session.add(Dataset(name="copper", version=2, engine="deepmd", **values))
    answer = client.post("/api/v1/jobs", json={"config": config, "test_on": ["dataset:copper@1"]})
    assert (answer.json()["code"], answer.json()["pointer"]) == ("wrong-engine", "/test_on/0"), answer.text


def test_a_task_is_named_where_there_are_several_and_only_there(client, config, copper):
    several = of_several_tasks(config, "metal", "alloy")
    for sent, test_on, code, says in (
        (several, HELD_OUT, "missing-head", f"Write TASK={HELD_OUT}."),
        (several, f"gas={HELD_OUT}", "no-such-head", "It has metal, alloy."),
        (config, f"metal={HELD_OUT}", "no-such-head", "Remove it."),
        (several, "metal=dataset:silver", "unknown-dataset", None),
    ):
        problem = client.post("/api/v1/jobs", json={"config": sent, "test_on": [test_on]}).json()
        assert (problem["code"], problem["pointer"]) == (code, "/test_on/0"), problem
        assert says in (None, problem["hint"]), problem
        assert code == "unknown-dataset" or problem["message"].startswith("test_on[0] "), problem


def test_later_as_well(client, train, submit):
    job_id = train(1)
    answer = client.put(f"/api/v1/jobs/{job_id}/test-on", json={"data": ["dataset:silver"]})
    assert (answer.status_code, answer.json()["pointer"]) == (422, "/data/0")
    test = client.post(
        "/api/v1/jobs", json={"kind": "test", "config": {"models": [f"job:{job_id}"], "data": [HELD_OUT]}}
    )
    answer = client.put(f"/api/v1/jobs/{test.json()['id']}/test-on", json={"data": []})
    assert (answer.status_code, answer.json()["code"]) == (409, "no-training")
    assert client.put("/api/v1/jobs/999/test-on", json={"data": []}).status_code == 404


def test_a_model_that_is_gone_is_told_and_not_tried_again(client, app, train, upkeep):
    job_id = train(1, test_on=[HELD_OUT])
    (file,) = (
        file
        for file in client.get(f"/api/v1/jobs/{job_id}/checkpoints").json()[0]["files"]
        if file["role"] == "checkpoint"
    )
    app.state.blobs.remove(file["sha256"])
    assert (upkeep(), upkeep()) == (0, 0)
    warnings = [event for event in client.get(f"/api/v1/jobs/{job_id}/events").json() if event["kind"] == "warning"]
    assert "not measured on dataset:copper@1/md" in warnings[-1]["message"]
    assert client.get(f"/api/v1/jobs/{job_id}").json()["test_on"] == []


def test_the_same_freeze_again_is_answered_by_the_first(client, app, worker, copper):
    register(app, "one", b"weights of one", engine="deepmd")
    inspect(app, worker, engine="deepmd")
    body = {"kind": "freeze", "config": {"models": ["one"]}, "on_existing": "reuse"}
    first, again = (client.post("/api/v1/jobs", json=body) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200), first.text
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["weight_check"]["decision"] == "reuse"
    anew = client.post("/api/v1/jobs", json=body | {"on_existing": "new"})
    assert (anew.status_code, anew.json()["id"] != first.json()["id"]) == (201, True)
    client.post(f"/api/v1/jobs/{anew.json()['id']}/cancel")
    assert client.post("/api/v1/jobs", json=body).json()["id"] == first.json()["id"], "a cancelled one is no answer"
    refused = client.post("/api/v1/jobs", json=body | {"on_existing": "resume"})
    assert (refused.status_code, refused.json()["pointer"]) == (422, "/on_existing")
