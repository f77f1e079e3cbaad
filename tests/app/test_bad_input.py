"""Whatever is sent, the answer is never a 500 and always the one shape."""

import json
import secrets
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.db import transaction
from app.models import service as models
from app.wire.problems import ErrorBody
from tests.app.conftest import CONFIG
from tests.app.simulated import base_facts

SHORT = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

TEXT = st.text(st.characters(codec=None, categories=("L", "N", "P", "Z", "C", "S")), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
PATHS = [
    ("POST", "/api/v1/jobs"),
    ("POST", "/api/v1/configs/resolve"),
    ("POST", "/api/v1/jobs/1/cancel"),
    ("POST", "/api/v1/login-links"),
    ("POST", "/api/v1/models/promote"),
]
WORKER_PATHS = [("POST", f"/api/v1/worker/{name}") for name in ("hello", "presence", "bye", "claim", "errands/1/claim")]
ATTEMPT_PATHS = [
    ("POST", name) for name in ("heartbeat", "events", "checkpoints", "metrics?seq=0", "logs?offset=0")
] + [("PUT", "environment")]


def check(answer) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        body = ErrorBody.model_validate_json(answer.content)
        assert body.code
        assert body.message


def encoded(value) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture
def running(request, submit, worker):
    """A running attempt of a job."""
    return worker.claim(submit()["id"])


@SHORT
@given(st.sampled_from(PATHS), VALUES.map(encoded) | st.binary(max_size=60))
def test_any_body_of_a_person(client, path, body):
    method, address = path
    check(client.request(method, address, content=body, headers={"Content-Type": "application/json"}))


@SHORT
@given(st.data())
def test_any_value_anywhere_in_a_submission(client, copper, data):
    document = {
        "config": json.loads(json.dumps(CONFIG)),
        "name": "x",
        "seed": 1,
        "tags": [],
        "start": {"mode": "scratch"},
    }
    holder = document
    while True:
        key = data.draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
        deeper = holder[key]
        if not isinstance(deeper, (dict, list)) or not deeper or data.draw(st.booleans()):
            break
        holder = deeper
    holder[key] = data.draw(VALUES)
    check(client.post("/api/v1/jobs", content=encoded(document), headers={"Content-Type": "application/json"}))


@SHORT
@given(
    st.sampled_from(["state", "engine", "name", "tag", "cursor", "limit", "after", "tail", "offset", "attempt"]), TEXT
)
def test_any_query(client, copper, key, value):
    value = value.encode("utf-8", "replace").decode()
    for path in ("jobs", "jobs/1", "jobs/1/events", "jobs/1/logs", "jobs/1/checkpoints", "engines/deepmd/schema"):
        check(client.get(f"/api/v1/{path}", params={key: value}))


@SHORT
@given(TEXT.filter(bool))
def test_any_token_key_and_address(client, text):
    sent = text.encode("utf-8", "replace")
    header = sent.replace(b"\r", b"").replace(b"\n", b"")
    check(client.get("/api/v1/jobs", headers={"Authorization": b"Bearer " + header}))
    check(client.post("/api/v1/jobs", json={}, headers={b"Idempotency-Key": header}))
    check(client.get("/api/v1/jobs/" + quote(sent, safe="")))


@SHORT
@given(st.sampled_from(WORKER_PATHS), VALUES.map(encoded) | st.binary(max_size=60))
def test_any_body_of_a_worker(worker_client, path, body):
    method, address = path
    check(worker_client.request(method, address, content=body, headers={"Content-Type": "application/json"}))


MESSAGES = {
    "heartbeat": {"phase": "training", "step": 1, "steps_per_s": 1.0},
    "events": {"events": [{"seq": 0, "kind": "warning", "message": "m", "data": {}}]},
    "checkpoints": {
        "step": 1,
        "files": [{"name": "a", "role": "state", "sha256": "0" * 64, "md5": "0" * 32, "size": 1}],
        "metrics": {},
    },
    "end": {"outcome": "failed", "step": 1, "cause": {"failure": "data", "message": "m"}},
    "environment": {"a": 1},
}


@SHORT
@given(st.sampled_from(sorted(MESSAGES)), st.data())
def test_any_value_in_a_message_of_an_attempt(worker, submit, name, data):
    attempt = worker.claim(submit()["id"])
    message = json.loads(json.dumps(MESSAGES[name]))
    message[data.draw(st.sampled_from(list(message)))] = data.draw(VALUES)
    method = "PUT" if name == "environment" else "POST"
    headers = {"Content-Type": "application/json"}
    check(attempt.send(method, f"{attempt.path}/{name}", content=encoded(message), headers=headers))


@SHORT
@given(st.sampled_from(ATTEMPT_PATHS), st.binary(max_size=100))
def test_any_bytes_of_an_attempt(running, path, body):
    method, name = path
    for kind in ("application/json", "application/octet-stream"):
        check(running.send(method, f"{running.path}/{name}", content=body, headers={"Content-Type": kind}))


@pytest.mark.parametrize("number", ["0", "-1", "9223372036854775808", "1" * 400, "1.5", "0x1", "१"])
def test_any_number_in_an_address(client, number):
    for path in (f"jobs/{number}", f"jobs/{number}/logs", f"jobs/1/checkpoints/{number}/x", f"jobs/{number}/bundle"):
        check(client.get(f"/api/v1/{path}"))
        assert client.get(f"/{path}").status_code != 500


@pytest.fixture
def errand(app, worker):
    """Take a fresh inspection of a fresh model."""

    def errand():
        data = secrets.token_bytes(16)
        digests = app.state.blobs.keep_bytes(data)
        with transaction(app.state.sessions) as session:
            values = {"file_name": "w.pt", "source": "test", "engine": "deepmd"}
            model, _ = models.register(session, app.state.blobs, name="water", digests=digests, **values)
            inspection = models.inspection(session, model)
        return worker.take_errand(inspection.id)

    return errand


@SHORT
@given(VALUES.map(encoded) | st.binary(max_size=100))
def test_any_bytes_about_a_file(client, errand, body):
    assert errand().send("POST", "result", content=body).status_code == 204
    assert client.get("/api/v1/models/water").json()["state"] == "refused"


@SHORT
@given(st.data())
def test_any_value_anywhere_in_what_was_found(client, errand, data):
    document = json.loads(json.dumps({"result": base_facts(config={"a": [1]}, seeds={"x": 1}, has_optimizer=True)}))
    holder = document["result"]
    while True:
        key = data.draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
        deeper = holder[key]
        if not isinstance(deeper, (dict, list)) or not deeper or data.draw(st.booleans()):
            break
        holder = deeper
    holder[key] = data.draw(VALUES)
    assert errand().send("POST", "result", content=encoded(document)).status_code == 204
    answer = client.get("/api/v1/models", params={"limit": 1})
    check(answer)
    [model] = answer.json()["items"]
    assert model["state"] in ("ready", "refused")
    check(client.get(f"/api/v1/models/{model['id']}"))
