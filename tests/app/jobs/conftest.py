"""Fixtures for jobs that start from base models: an engine of few words, its worker, base models."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from app.db import reading, transaction
from app.engines import registry
from app.models import service as models
from app.settings import Settings
from app.tables import BaseModel, Errand
from tests.app.jobs.stub import StubEngine, inventory
from tests.app.simulated import SimulatedErrand, SimulatedWorker, add_worker, base_facts

MODEL = {"width": 8, "cutoff": 6.0}
"""The model section of the base `water`."""


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubEngine:
    """An engine beside those there are."""
    engine = StubEngine()
    monkeypatch.setattr(registry, "ENGINES", (*registry.ENGINES, engine))
    return engine


@pytest.fixture
def hurried(settings: Settings) -> None:
    """A server that waits for workers only a moment."""
    settings.plan_wait_s = 0.2


@pytest.fixture
def stub_worker(stub: StubEngine, client: TestClient, worker_client: TestClient) -> Callable[[], SimulatedWorker]:
    """Bring a worker of that engine to life."""
    return lambda: add_worker(worker_client, "stubborn", engines={"stub": "1"})


def register(
    app: FastAPI, name: str = "water", content: bytes = b"weights of water", engine: str = "stub"
) -> BaseModel:
    """Register a file of weights that nobody has inspected."""
    with transaction(app.state.sessions) as session:
        digests = app.state.blobs.keep_bytes(content)
        row, _ = models.register(
            session,
            app.state.blobs,
            name=name,
            digests=digests,
            file_name=f"{name}.pt",
            source=f"upload {name}.pt",
            engine=engine,
        )
        return row


def waiting(app: FastAPI, kind: str) -> list[int]:
    """Return the ids of the errands of a kind that wait."""
    with reading(app.state.sessions) as session:
        chosen = select(Errand.id).where(Errand.kind == kind, Errand.state == "waiting")
        return list(session.scalars(chosen.order_by(Errand.id)))


def facts(**changes: Any) -> dict[str, Any]:
    """Return what an inspection finds in `water`."""
    branch = {"name": "", "type_map": ["Cu"], "model": MODEL, "parameters": 8}
    return base_facts(**{"engine": "stub", "branches": [branch], "parameters": 8, "seed": 77} | changes)


def inspect(app: FastAPI, worker: SimulatedWorker, **changes: Any) -> None:
    """Let a worker find a good model in every file that waits."""
    for errand_id in waiting(app, "inspect"):
        answer = worker.take_errand(errand_id).answer(result=facts(**changes))
        assert answer.status_code == 204, answer.text


def list_tensors(app: FastAPI, worker: SimulatedWorker) -> list[SimulatedErrand]:
    """Let a worker list the tensors of every model that waits."""
    errands = [worker.take_errand(errand_id) for errand_id in waiting(app, "inventory")]
    for errand in errands:
        answer = errand.answer(result=inventory(errand.grant["order"]["width"]))
        assert answer.status_code == 204, answer.text
    return errands
