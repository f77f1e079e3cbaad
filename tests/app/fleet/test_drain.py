"""A worker that drains: told with its next sign of life, and no job is kept for it."""

from starlette.testclient import TestClient

from app.wire.system import WorkerView
from tests.app.simulated import SimulatedWorker


def listed(client: TestClient) -> WorkerView:
    (found,) = client.get("/api/v1/workers").json()
    return WorkerView.model_validate(found)


def test_a_worker_drains_and_takes_work_again(client, submit, worker: SimulatedWorker) -> None:
    job = submit()["id"]
    worker.claim(job)
    answer = client.post(f"/api/v1/workers/{worker.id}/drain")
    assert answer.status_code == 200
    assert (answer.json()["drain"], answer.json()["jobs"]) == (True, [job])
    assert worker.presence(busy=1).json() == {"drain": True}
    assert listed(client).drain
    client.post(f"/api/v1/workers/{worker.id}/drain", json={"drain": False})
    assert worker.presence(busy=1).json() == {"drain": False}


def test_only_a_worker_that_is_known_drains(client, worker_client) -> None:
    answer = client.post("/api/v1/workers/nobody/drain", json={"drain": True})
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert client.post("/api/v1/workers/nobody/drain", json={"drian": True}).status_code == 422
    assert worker_client.post("/api/v1/workers/nobody/drain").status_code == 403
