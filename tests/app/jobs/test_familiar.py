"""Relaxations by a training's checkpoint, or by a base model made of it, are told what its data do not have."""

import pytest

from app.db import transaction
from app.tables import Dataset
from app.wire.datasets import Distances
from tests.app.jobs.conftest import inspect

KNOWN = Distances(cutoff=6.0, frames=10, nearest={"Cu-Cu": 2.3}, farthest={"Cu": 2.8})


@pytest.fixture
def measured(app, copper):
    """Let the distances in the training data be known."""
    with transaction(app.state.sessions) as session:
        row = session.get_one(Dataset, copper.id)
        row.summary = {**row.summary, "distances": {"md": KNOWN.model_dump()}}


@pytest.fixture
def check(client):
    """Send two copper atoms so far apart, and say of what their relaxation by a model is warned."""

    def check(model, distance):
        params = {"name": "pair", "filename": "pair.xyz", "form": "structures"}
        sent = client.post("/api/v1/datasets", params=params, content=f"2\n\nCu 0 0 0\nCu 0 0 {distance}\n".encode())
        assert sent.status_code in (200, 201), sent.text
        body = {"kind": "relax", "config": {"models": [model], "structures": ["dataset:pair"]}}
        answer = client.post("/api/v1/configs/resolve", json=body)
        assert answer.status_code == 200, answer.text
        return [(one["pointer"], one["message"]) for one in answer.json()["warnings"]]

    return check


@pytest.fixture
def trained(submit, worker):
    """A training with a checkpoint."""
    attempt = worker.claim(submit()["id"])
    attempt.checkpoint(1000)
    attempt.end("completed", 1000)
    return attempt.claim["job_id"]


def test_a_structure_is_compared_before_anything_is_queued(measured, trained, check, client, app, worker):
    [(pointer, message)] = check(f"job:{trained}", 2.2)
    assert pointer == "/config/structures/0"
    assert "dataset:pair@1/pair: atoms 0 (Cu) and 1 (Cu) are 2.200 Å apart: nearer than any Cu-Cu pair" in message
    assert check(f"job:{trained}", 2.5) == []
    [(_, far)] = check(f"job:{trained}", 3.1)
    assert f"farther than any Cu of the data that job:{trained}@1000 was trained on (2.800 Å)" in far
    promoted = client.post("/api/v1/models/promote", json={"job": trained}).json()
    inspect(app, worker, engine="deepmd")
    [(_, near)] = check(f"{promoted['name']}@{promoted['version']}", 2.2)
    assert f"the data that {promoted['name']}@{promoted['version']} was trained on" in near


def test_of_data_that_were_sent_before_distances_were_measured_nothing_is_said(trained, check):
    assert check(f"job:{trained}", 2.2) == []
