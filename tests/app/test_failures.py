import logging
import shutil

import pytest
from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import event
from starlette.testclient import TestClient

from app.main import create_app
from app.strict_json import StrictRoute


class Body(BaseModel):
    colour: str
    rings: list[int] = []


@pytest.fixture
def database_url(tmp_path, sqlite_template):
    """SQLite only: hardly anything here reaches the database."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'cairn.db')}"


@pytest.fixture
def probe(settings):
    router = APIRouter(route_class=StrictRoute)

    @router.post("/api/probe")
    def post(body: Body) -> Body:
        return body

    @router.get("/api/probe/{number}")
    def get(number: int, limit: int = 1) -> int:
        return number

    @router.get("/api/broken")
    def broken() -> None:
        raise RuntimeError("the secret is mellon")

    app = create_app(settings, background=False)
    app.include_router(router)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_what_we_break_has_an_incident_number_and_no_traceback(probe, caplog):
    with caplog.at_level(logging.ERROR, "app.failures"):
        answer = probe.get("/api/broken")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "mellon" not in answer.text
    incident = answer.json()["message"].split("incident ")[1].rstrip(")")
    assert incident in caplog.text
    assert "the secret is mellon" in caplog.text


def test_a_database_without_room_is_a_full_disk(worker_client, app):
    engine = app.state.sessions.kw["bind"]
    event.listen(engine, "checkout", lambda connection, *_: connection.execute("PRAGMA max_page_count = 1"))
    large = {"python": "3" * 1_000_000}
    hello = {"worker_id": "w", "name": "w", "host": "h", "engines": {}, "slots": 1, "versions": large}
    answer = worker_client.post("/api/v1/worker/hello", json=hello)
    assert (answer.status_code, answer.json()["code"]) == (507, "disk-full")
    assert worker_client.post("/api/v1/worker/hello", json=hello | {"versions": {}}).status_code == 200


def test_every_invalid_value_is_listed_with_its_pointer(probe):
    answer = probe.post("/api/probe", json={"rings": [1, "two"]})
    assert answer.status_code == 422
    assert [problem["pointer"] for problem in answer.json()["problems"]] == ["/colour", "/rings/1"]
    assert answer.json()["pointer"] == "/colour"


def test_a_wrong_query_parameter_is_named(probe):
    assert "`limit`" in probe.get("/api/probe/1?limit=many").json()["message"]


def test_an_address_that_cannot_exist_is_not_found(probe):
    assert probe.get("/api/probe/abc").status_code == 404
    assert probe.get("/api/nowhere").json()["code"] == "not-found"


def test_a_wrong_method_says_so(probe):
    answer = probe.delete("/api/probe")
    assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"colour": "red",\n "rings": [1,, 2]}', "line 2, column 14"),
        (b'{"colour": NaN}', "line 1, column 12: NaN is not a JSON number"),
        (b'{"colour":\n "a\\u0000b"}', "line 2, column 4"),
        (b'{"colour": "a\\ud800b"}', "not text"),
        (b'{"colour": "a", "colour": "b"}', "'colour' stands twice"),
        (b'{"colour": "\xff"}', "byte 12 is not UTF-8"),
        (b'{"rings": [1e999]}', "too large"),
        (b'{"rings": [' + b"1" * 5000 + b"]}", "5000 digits"),
        (b"[" * 100_000, "nested more than 100 levels"),
        (b'{"rings": ' + b"[" * 500 + b"]" * 500 + b"}", "nested more than 100 levels"),
        (b"   ", "line 1"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(probe, text, said):
    answer = probe.post("/api/probe", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid-json"
    assert said in answer.json()["message"]


def test_comments_get_their_own_hint(probe):
    answer = probe.post(
        "/api/probe", content=b'{\n// red\n"colour": "red"}', headers={"Content-Type": "application/json"}
    )
    assert "line 2" in answer.json()["message"]
    assert answer.json()["hint"] == "JSON has no comments."
