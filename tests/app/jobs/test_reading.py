"""Lists, single jobs, logs, events, bundles."""

import io
import json
import zipfile
from importlib import metadata

import pytest

from app.engines import registry
from app.wire.worker import PROTOCOL_VERSION
from tests.conftest import counted_queries


@pytest.fixture
def queries(app, client):
    return lambda: counted_queries(app.state.sessions.kw["bind"])


def test_a_list_is_newest_first_and_pages_to_the_end(client, submit):
    ids = [submit()["id"] for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = client.get("/api/v1/jobs", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen.append([job["id"] for job in page["items"]])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]


def test_filters_narrow_the_list(client, submit, worker):
    water = submit(name="Water 100%", tags=["h2o"])["id"]
    copper = submit(name="copper_x", tags=["cu", "paper"])["id"]
    worker.claim(copper)

    def found(**parameters):
        return [job["id"] for job in client.get("/api/v1/jobs", params=parameters).json()["items"]]

    assert found(state="queued") == [water]
    assert found(state=["queued", "running"]) == [copper, water]
    assert found(name="WATER") == [water]
    assert found(name="0%") == [water]
    assert found(name="r_x") == [copper]
    assert found(name="%") == [water]
    assert found(tag="paper") == [copper]
    assert found(tag="pap") == []
    assert found(engine="minimind") == []


@pytest.mark.parametrize(
    "parameters", [{"state": "lost"}, {"limit": 0}, {"limit": 1000}, {"cursor": "ü"}, {"cursor": "bm8"}]
)
def test_wrong_filters_are_refused(client, parameters):
    assert client.get("/api/v1/jobs", params=parameters).status_code == 422


def test_a_list_costs_the_same_number_of_queries_however_long(client, submit, queries):
    def cost():
        with queries() as statements:
            assert client.get("/api/v1/jobs", params={"limit": 100}).status_code == 200
        return len(statements)

    submit()
    one = cost()
    for _ in range(9):
        submit()
    assert cost() == one == 2  # the token and the jobs


def test_an_unchanged_job_is_a_304_for_one_row(client, submit, worker, queries):
    job_id = submit()["id"]
    tag = client.get(f"/api/v1/jobs/{job_id}").headers["ETag"]
    with queries() as statements:
        answer = client.get(f"/api/v1/jobs/{job_id}", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content) == (304, b"")
    assert len(statements) == 2  # the token and the version
    worker.claim(job_id).heartbeat(1)
    answer = client.get(f"/api/v1/jobs/{job_id}", headers={"If-None-Match": tag})
    assert answer.status_code == 200
    assert answer.headers["ETag"] != tag


def test_a_job_that_does_not_exist_is_not_found(client):
    for path in (
        "jobs/1",
        "jobs/1/events",
        "jobs/1/logs",
        "jobs/1/log.txt",
        "jobs/1/checkpoints",
        "jobs/1/bundle",
        "jobs/abc",
        f"jobs/{2**70}",
    ):
        assert client.get(f"/api/v1/{path}").status_code == 404, path


def test_logs_by_lines_and_by_bytes(client, submit, worker):
    job_id = submit()["id"]
    path = f"/api/v1/jobs/{job_id}/logs"
    assert client.get(path).text == ""
    attempt = worker.claim(job_id)
    for line in range(100):
        attempt.log(f"line {line}\n".encode())
    attempt.log("no end: é".encode())
    assert client.get(path, params={"tail": 3}).text == "line 98\nline 99\nno end: é"
    assert client.get(path, params={"tail": 0}).text == ""
    assert len(client.get(path, params={"tail": 1000}).text.splitlines()) == 101
    whole = client.get(path)
    assert whole.headers["X-Log-Size"] == str(len(whole.content))
    assert client.get(path, params={"offset": 5, "limit": 7}).content == whole.content[5:12]
    assert client.get(path, params={"offset": 10**9}).content == b""
    attempt.end("interrupted", 0)
    worker.claim(job_id, 2).log(b"again")
    assert client.get(path).text == "again"
    assert client.get(path, params={"attempt": 1}).content == whole.content
    assert client.get(path, params={"attempt": 3}).status_code == 404
    download = client.get(f"/api/v1/jobs/{job_id}/log.txt")
    assert download.content == whole.content + b"again"
    assert download.headers["Content-Disposition"] == f'attachment; filename="job-{job_id}.log"'


def test_the_last_lines_of_a_log_without_line_ends_are_bounded(client, submit, worker):
    job_id = submit()["id"]
    attempt = worker.claim(job_id)
    for _ in range(3):
        attempt.log(b"x" * (7 << 20))
    assert len(client.get(f"/api/v1/jobs/{job_id}/logs", params={"tail": 1}).content) == 16 << 20


def test_a_bundle_holds_the_whole_job(client, submit, worker, config):
    job_id = submit(name="Cu", seed=3)["id"]
    attempt = worker.claim(job_id)
    attempt.environment({"torch": "2.11"})
    attempt.metrics(0, [1, 2], **{"train/loss": [2.0, 0.5], "lr": [1e-3, 1e-3]})
    attempt.log(b"the log\n")
    attempt.checkpoint(200, b"older")
    attempt.checkpoint(400, b"newer")

    def bundle(**parameters):
        answer = client.get(f"/api/v1/jobs/{job_id}/bundle", params=parameters)
        assert answer.status_code == 200
        archive = zipfile.ZipFile(io.BytesIO(answer.content))
        assert archive.testzip() is None
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}

    files = bundle()
    assert set(files) == {
        "input.json", "submission.json", "out.json", "provenance.json", "environment.json", "timeline.json",
        "log.txt", "lcurve.out", "checkpoints/step-400/model.ckpt-400.pt", "checkpoints/step-400/state.pt",
    }  # fmt: skip
    assert json.loads(files["input.json"]) == config
    assert json.loads(files["out.json"])["model"]["descriptor"]["rcut"] == 5.0
    assert json.loads(files["provenance.json"])["datasets"] == {"dataset:copper@1": "c0" * 32}
    assert json.loads(files["environment.json"])[0]["environment"] == {"torch": "2.11"}
    assert files["log.txt"] == b"the log\n"
    assert files["checkpoints/step-400/model.ckpt-400.pt"] == b"newer"
    assert files["lcurve.out"].startswith(b"#")
    assert not [name for name in bundle(checkpoints="none") if name.startswith("checkpoints/")]
    assert bundle(checkpoints="all")["checkpoints/step-200/model.ckpt-200.pt"] == b"older"
    assert client.get(f"/api/v1/jobs/{job_id}/bundle?checkpoints=some").status_code == 422


def test_engines_and_their_schemas_are_served(client):
    engines = client.get("/api/v1/engines").json()
    assert [engine["name"] for engine in engines] == [engine.name for engine in registry.ENGINES]
    assert engines[0]["learning_curve_name"] == "lcurve.out"
    assert client.get("/api/v1/engines/deepmd/schema").json()["$schema"].endswith("2020-12/schema")
    assert client.get("/api/v1/engines/nothing/schema").status_code == 404


def test_health_says_which_part_is_away(anonymous):
    answer = anonymous.get("/api/v1/health")
    assert answer.status_code == 503
    assert answer.json() == {"ok": False, "database": True, "redis": False}


def test_versions_are_told(client):
    version = client.get("/api/v1/version").json()
    assert version["protocol"] == PROTOCOL_VERSION
    assert version["engines"] == {engine.name: metadata.version(engine.library) for engine in registry.ENGINES}
    assert version["engines"]["deepmd"] == "3.2.0"
