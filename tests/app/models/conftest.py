"""Base models over HTTP, inspected by a simulated worker."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from app.tables import Errand
from tests.app.simulated import SimulatedErrand, SimulatedWorker

Upload = Callable[..., httpx.Response]
Inspect = Callable[[], SimulatedErrand]


@pytest.fixture
def upload(client: TestClient) -> Upload:
    """Upload a file as a form."""

    def upload(
        data: bytes = b"weights", name: str = "water", file_name: str = "water.pt", wait: float = 0, **fields: Any
    ) -> httpx.Response:
        files = {"file": (file_name, data)}
        params = {"wait": wait} if wait else {}
        return client.post("/api/v1/models", params=params, data={"name": name, **fields}, files=files)

    return upload


@pytest.fixture
def inspect(app: FastAPI, worker: SimulatedWorker) -> Inspect:
    """Take the inspection that waits longest."""

    def inspect() -> SimulatedErrand:
        with app.state.sessions() as session:
            waiting = select(Errand.id).where(Errand.state == "waiting").order_by(Errand.id)
            errand_id = session.scalars(waiting).first()
        assert errand_id is not None, "nothing waits for an inspection"
        return worker.take_errand(errand_id)

    return inspect
