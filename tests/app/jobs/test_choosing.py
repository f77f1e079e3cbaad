"""Whose a submission is that names no engine."""

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.tables import Dataset
from tests.app.jobs.conftest import register
from tests.app.jobs.stub import StubEngine


def chosen(client: TestClient, config: dict[str, Any], **start: str) -> str:
    """Return the engine of a job; of a refused one that of its base."""
    answer = client.post("/api/v1/jobs", json={"config": config} | ({"start": start} if start else {}))
    assert answer.status_code == 201, answer.text
    engine: str = answer.json()["engine"]
    return engine


def test_the_engine_that_alone_recognises_a_config_has_it(
    client: TestClient, stub: StubEngine, copper: Dataset, config: dict[str, Any]
) -> None:
    assert chosen(client, {"cutoff": 5.0}) == "stub"
    assert chosen(client, config) == "deepmd"
    checked = client.post("/api/v1/configs/resolve", json={"config": {"cutoff": 5.0}}).json()
    assert checked["engine"] == "stub"


def test_what_only_changes_a_base_is_for_the_engine_of_the_base(
    app: FastAPI, client: TestClient, stub: StubEngine, hurried: None
) -> None:
    job = client.post("/api/v1/jobs", json={"config": {}, "engine": "stub"}).json()
    register(app)
    for base in ("water", f"job:{job['id']}"):
        answer = client.post("/api/v1/jobs", json={"config": {"steps": 7}, "start": {"mode": "init", "base": base}})
        assert answer.json()["code"] in ("base-not-ready", "no-checkpoint"), answer.text


@pytest.mark.parametrize("config", [{}, {"model": 3}, {"training": {}}])
def test_a_config_that_nobody_knows_is_the_first_engines(client: TestClient, config: dict[str, Any]) -> None:
    answer = client.post("/api/v1/jobs", json={"config": config})
    assert answer.status_code == 422
    named = client.post("/api/v1/jobs", json={"config": config, "engine": "deepmd"})
    assert answer.json()["problems"] == named.json()["problems"]
