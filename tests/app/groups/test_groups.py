"""Groups over REST: what is told of them, and what is done to all of their jobs."""

import io
import json
import zipfile

import pytest

from app.engines.seeds import derive
from app.groups import metrics
from tests.conftest import counted_queries

LOSS = "train/loss"


@pytest.fixture
def group(client, submit):
    """A group of three replicas: its number and those of its jobs."""
    first = submit(replicas=3, seed=7, name="cu")
    found = client.get("/api/v1/jobs", params={"group": first["group"]}).json()["items"]
    return first["group"], [job["id"] for job in reversed(found)]


@pytest.fixture
def show(client, group):
    return lambda: client.get(f"/api/v1/groups/{group[0]}").json()


def act(client, group, verb, **body):
    answer = client.post(f"/api/v1/groups/{group[0]}/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def states(show):
    return [job["state"] for job in show()["jobs"]]


def test_a_group_tells_of_its_jobs(client, group, show, worker):
    found = show()
    assert (found["name"], found["engine"], found["seed"], found["size"]) == ("cu", "deepmd", 7, 3)
    assert (found["states"], found["step"], found["total_steps"]) == ({"queued": 3}, 0, 1000)
    assert [(job["id"], job["replica"]) for job in found["jobs"]] == list(zip(group[1], (1, 2, 3), strict=True))
    assert (found["summary"], found["tasks"]) == ([], [])
    first = worker.claim(group[1][0])
    first.metrics(0, [1, 2], **{LOSS: [3.0, 2.0]})
    assert show()["states"] == {"running": 1, "queued": 2}
    answer = client.get("/api/v1/groups/99")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_the_summary_is_of_the_newest_values(group, show, worker):
    for job_id, value in zip(group[1], (2.0, 4.0, float("nan")), strict=True):
        attempt = worker.claim(job_id)
        attempt.metrics(0, [10, 20], **{LOSS: [9.0, value], "perf/step_s": [0.1, 0.2]})
    (summary,) = show()["summary"]
    assert (summary["key"], summary["count"], summary["mean"]) == (LOSS, 2, 3.0)
    assert summary["std"] == pytest.approx(2**0.5)
    assert summary["high"] == pytest.approx(3 + 12.7062)
    assert summary["values"] == dict(zip(map(str, group[1]), (2.0, 4.0, None), strict=True))
    assert summary["outliers"] == [group[1][2]]


def test_a_group_costs_few_queries_and_an_unchanged_one_fewer(client, app, group, worker):
    worker.claim(group[1][0]).metrics(0, [1], **{LOSS: [1.0]})
    with counted_queries(app.state.sessions.kw["bind"]) as statements:
        answer = client.get(f"/api/v1/groups/{group[0]}")
    asked = [text for text in statements if "jobs" in text]
    assert len(asked) == 2
    assert not any("resolved" in text for text in asked)
    same = client.get(f"/api/v1/groups/{group[0]}", headers={"If-None-Match": answer.headers["ETag"]})
    assert same.status_code == 304
    worker.claim(group[1][1])
    changed = client.get(f"/api/v1/groups/{group[0]}", headers={"If-None-Match": answer.headers["ETag"]})
    assert changed.status_code == 200


def test_groups_are_listed_newest_first_in_pages(client, submit):
    numbers = [submit(replicas=2, name=name)["group"] for name in ("a", "b", "c")]
    page = client.get("/api/v1/groups", params={"limit": 2}).json()
    assert [(one["id"], one["name"], one["states"]) for one in page["items"]] == [
        (numbers[2], "c", {"queued": 2}),
        (numbers[1], "b", {"queued": 2}),
    ]
    rest = client.get("/api/v1/groups", params={"cursor": page["next_cursor"]}).json()
    assert ([one["id"] for one in rest["items"]], rest["next_cursor"]) == (numbers[:1], None)
    assert client.get("/api/v1/groups", params={"cursor": "x"}).status_code == 422


def test_bands_are_aligned_by_step(client, group, worker, monkeypatch):
    monkeypatch.setattr(metrics, "WINDOW_VALUES", 4)  # several windows of very few steps
    runs = ([1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, float("inf")], [2.0, 6.0])
    for job_id, values in zip(group[1], runs, strict=True):
        attempt = worker.claim(job_id)
        attempt.metrics(0, [10, 20, 30, 40][: len(values)], **{LOSS: values, "lr": [0.1] * len(values)})
    path = f"/api/v1/groups/{group[0]}/metrics"
    answer = client.get(path, params={"keys": f"{LOSS},nothing"})
    band = answer.json()["bands"].pop(LOSS)
    assert (band["steps"], band["count"]) == ([10, 20, 30, 40], [3, 3, 2, 1])
    assert (band["mean"], band["min"], band["max"]) == (
        [2.0, 4.0, 4.0, 4.0],
        [1.0, 2.0, 3.0, 4.0],
        [3.0, 6.0, 5.0, 4.0],
    )
    assert band["std"] == [1.0, 2.0, pytest.approx(2**0.5), None]
    assert band["low"][:2] == pytest.approx([2 - 4.30265 / 3**0.5, 4 - 2 * 4.30265 / 3**0.5], rel=1e-5)
    assert (band["low"][3], band["high"][3]) == (None, None)
    inner = client.get(path, params={"from_step": 20, "to_step": 30}).json()["bands"]
    assert {key: one["steps"] for key, one in inner.items()} == {LOSS: [20, 30], "lr": [20, 30]}
    assert client.get(path, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    csv = client.get(path, params={"format": "csv", "keys": "train/*"})
    rows = [line.split(",") for line in csv.text.splitlines()]
    assert rows[0] == ["key", "step", "count", "mean", "std", "low", "high", "min", "max"]
    assert [row[:5] for row in rows[1:3]] == [[LOSS, "10", "3", "2.0", "1.0"], [LOSS, "20", "3", "4.0", "2.0"]]
    assert rows[4] == [LOSS, "40", "1", "4.0", "", "", "", "4.0", "4.0"]


def test_bands_are_thinned_on_request(client, group, worker):
    for job_id in group[1]:
        worker.claim(job_id).metrics(0, list(range(1, 2001)), **{LOSS: [9.0 if i == 777 else 1.0 for i in range(2000)]})
    path = f"/api/v1/groups/{group[0]}/metrics"
    band = client.get(path, params={"max_points": 50}).json()["bands"][LOSS]
    assert len(band["steps"]) <= 50
    assert band["mean"][band["steps"].index(778)] == 9.0
    thin = client.get(path, params={"max_points": 50, "format": "csv"}).text.splitlines()
    assert len(thin) == len(band["steps"]) + 1


def test_cancelling_a_group_cancels_what_is_not_over(client, group, show, worker):
    worker.claim(group[1][0]).end("completed", 1000)
    running = worker.claim(group[1][1])
    done = act(client, group, "cancel", reason="enough")
    assert done == {
        "changed": group[1][1:],
        "unchanged": {str(group[1][0]): f"job {group[1][0]} is completed already"},
    }
    assert states(show) == ["completed", "stopping", "cancelled"]
    assert running.heartbeat().json()["action"] == "stop"
    again = act(client, group, "cancel")
    assert (again["changed"], len(again["unchanged"])) == ([], 3)
    assert act(client, group, "cancel", now=True)["changed"] == [group[1][1]]


def test_pausing_and_resuming_a_group(client, group, show, worker):
    running = worker.claim(group[1][0])
    assert act(client, group, "pause")["changed"] == group[1]
    assert states(show) == ["stopping", "paused", "paused"]
    early = act(client, group, "resume")
    assert early["changed"] == group[1][1:]
    assert "still writing" in early["unchanged"][str(group[1][0])]
    running.end("stopped", 10)
    assert states(show) == ["paused", "queued", "queued"]
    assert act(client, group, "resume")["changed"] == group[1][:1]
    assert client.post("/api/v1/groups/99/pause").status_code == 404


def test_an_ensemble_has_one_checkpoint_of_every_replica(client, group, worker):
    path = f"/api/v1/groups/{group[0]}/ensemble"
    attempts = [worker.claim(job_id) for job_id in group[1]]
    for number, attempt in enumerate(attempts[:2]):
        attempt.checkpoint(200, f"early {number}".encode())
        attempt.checkpoint(400 + number, f"late {number}".encode())
    refused = client.get(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "no-checkpoint")
    assert f"replica 3 (job {group[1][2]}, running at step 0) has no checkpoint yet" in refused.json()["message"]
    attempts[2].checkpoint(200, b"early 2")
    answer = client.get(path)
    assert answer.headers["Content-Disposition"] == f'attachment; filename="group-{group[0]}-ensemble.zip"'
    found = opened(answer)
    index = json.loads(found.pop("ensemble.json"))
    assert sorted(found.values()) == [b"early 2", b"late 0", b"late 1"]
    assert [(one["job"], one["replica"], one["seed"], one["step"]) for one in index["models"]] == [
        (job_id, number, derive(7, f"replica.{number}"), step)
        for job_id, number, step in zip(group[1], (1, 2, 3), (400, 401, 200), strict=True)
    ]
    assert [one["file"] for one in index["models"]] == sorted(found)
    assert index["use"] == [f"dp --pt model-devi -m {' '.join(sorted(found))} -s SYSTEM -o model_devi.out"]
    of_step = opened(client.get(path, params={"step": 200}))
    assert sorted(of_step.values())[:3] == [b"early 0", b"early 1", b"early 2"]
    assert client.get(path, params={"step": 400}).status_code == 409


def opened(answer) -> dict[str, bytes]:
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return {name.rsplit("/", 1)[-1]: archive.read(name) for name in archive.namelist()}
