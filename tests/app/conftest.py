"""Fixtures of the control plane's tests: data, a config that runs, a simulated worker."""

import copy
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.artifacts import service as blobs
from app.db import transaction
from app.tables import Dataset
from app.wire.datasets import DatasetSummary, SystemSummary
from tests.app.simulated import SimulatedWorker, add_worker

CONFIG = {
    "model": {
        "type_map": ["Cu"],
        "descriptor": {"type": "se_e2_a", "rcut": 5.0, "rcut_smth": 2.0, "sel": [72], "neuron": [8, 16]},
        "fitting_net": {"neuron": [16, 16]},
    },
    "learning_rate": {"type": "exp", "start_lr": 0.003, "stop_lr": 1e-5, "decay_steps": 100},
    "loss": {"type": "ener"},
    "training": {
        "training_data": {"systems": ["dataset:copper/md"], "batch_size": 1},
        "numb_steps": 1000,
        "disp_freq": 100,
        "save_freq": 200,
    },
}


@pytest.fixture
def config() -> dict[str, Any]:
    """A small DeePMD input on the dataset `copper`."""
    return copy.deepcopy(CONFIG)


@pytest.fixture
def copper(client: TestClient, app: FastAPI) -> Dataset:
    """A registered dataset with one system. Its bytes are no real archive: nothing here unpacks it."""
    system = SystemSummary(
        name="md", atoms=32, frames=10, elements={"Cu": 32}, type_map=["Cu"], labels=["energy", "force", "virial"]
    )
    summary = DatasetSummary(systems=[system], frames=10, atoms=320, elements=["Cu"], type_map=["Cu"])
    with transaction(app.state.sessions) as session:
        blob = blobs.record_blob(session, app.state.blobs, app.state.blobs.keep_bytes(b"a tar of copper"))
        row = Dataset(
            name="copper",
            version=1,
            engine="deepmd",
            digest="c0" * 32,
            blob_sha256=blob.sha256,
            size=blob.size,
            source="test",
            summary=summary.model_dump(mode="json"),
        )
        session.add(row)
    return row


@pytest.fixture
def submit(client: TestClient, copper: Dataset, config: dict[str, Any]):
    """Submit the small config with some options and return the job."""

    def submit(**options: Any) -> dict[str, Any]:
        answer = client.post("/api/v1/jobs", json={"config": config, **options})
        assert answer.status_code == 201, answer.text
        job: dict[str, Any] = answer.json()
        return job

    return submit


@pytest.fixture
def worker(worker_client: TestClient) -> SimulatedWorker:
    """A worker that has introduced itself."""
    return add_worker(worker_client, "one")
