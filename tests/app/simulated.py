"""A worker that speaks the protocol over HTTP and trains nothing."""

import hashlib
import io
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.testclient import TestClient

from app.wire.worker import METRICS_MEDIA_TYPE


@dataclass
class SimulatedWorker:
    """A worker process."""

    client: TestClient
    id: str

    def presence(self, busy: int = 0) -> httpx.Response:
        return self.client.post("/api/v1/worker/presence", json={"worker_id": self.id, "busy_slots": busy})

    def bye(self) -> httpx.Response:
        return self.client.post("/api/v1/worker/bye", json={"worker_id": self.id})

    def try_claim(self, job_id: int, attempt: int = 1, slots: int = 1) -> httpx.Response:
        body = {"worker_id": self.id, "job_id": job_id, "attempt": attempt, "slots": slots}
        return self.client.post("/api/v1/worker/claim", json=body)

    def reserves(self, job_id: int, attempt: int = 1) -> bool:
        body = {"worker_id": self.id, "job_id": job_id, "attempt": attempt}
        answer = self.client.post("/api/v1/worker/reserve", json=body)
        assert answer.status_code == 200, answer.text
        wait: bool = answer.json()["wait"]
        return wait

    def claim(self, job_id: int, attempt: int = 1, slots: int = 1) -> "SimulatedAttempt":
        answer = self.try_claim(job_id, attempt, slots)
        assert answer.status_code == 200, answer.text
        return SimulatedAttempt(self.client, answer.json())

    def try_errand(self, errand_id: int) -> httpx.Response:
        return self.client.post(f"/api/v1/worker/errands/{errand_id}/claim", json={"worker_id": self.id})

    def take_errand(self, errand_id: int) -> "SimulatedErrand":
        answer = self.try_errand(errand_id)
        assert answer.status_code == 200, answer.text
        return SimulatedErrand(self.client, answer.json())


@dataclass
class SimulatedAttempt:
    """An attempt, with the token of its claim."""

    client: TestClient
    claim: dict[str, Any]
    log_size: int = field(default=0)

    @property
    def path(self) -> str:
        return f"/api/v1/worker/attempts/{self.claim['attempt_id']}"

    def send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.claim['token']}"} | arguments.pop("headers", {})
        return self.client.request(method, path, headers=headers, **arguments)

    def heartbeat(
        self, step: int = 0, phase: str = "training", steps_per_s: float | None = 10.0, total_steps: int = 0
    ) -> httpx.Response:
        body = {"phase": phase, "step": step, "total_steps": total_steps, "steps_per_s": steps_per_s}
        return self.send("POST", f"{self.path}/heartbeat", json=body)

    def metrics(self, seq: int, steps: list[int], **columns: list[float | None]) -> httpx.Response:
        data = arrow(steps, columns or {"train/loss": [1.0 / step for step in steps]})
        headers = {"Content-Type": METRICS_MEDIA_TYPE}
        return self.send("POST", f"{self.path}/metrics?seq={seq}", content=data, headers=headers)

    def log(self, data: bytes, offset: int | None = None) -> httpx.Response:
        offset = self.log_size if offset is None else offset
        answer = self.send("POST", f"{self.path}/logs?offset={offset}", content=data)
        if answer.status_code == 200:
            self.log_size = answer.json()["size"]
        return answer

    def events(self, *events: dict[str, Any]) -> httpx.Response:
        return self.send("POST", f"{self.path}/events", json={"events": list(events)})

    def environment(self, value: dict[str, Any]) -> httpx.Response:
        return self.send("PUT", f"{self.path}/environment", json=value)

    def upload(self, data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        assert self.send("PUT", f"/api/v1/worker/blobs/{digest}", content=data).status_code in (200, 201)
        return {"sha256": digest, "md5": hashlib.md5(data).hexdigest(), "size": len(data)}

    def checkpoint(
        self, step: int, data: bytes | None = None, fingerprint: str = "f" * 64, **generators: str
    ) -> httpx.Response:
        data = f"weights of step {step}".encode() if data is None else data
        files = [
            {"name": f"model.ckpt-{step}.pt", "role": "checkpoint", **self.upload(data)},
            {"name": "state.pt", "role": "state", **self.upload(b"state: " + data)},
        ]
        body = {"step": step, "files": files, "metrics": {"train/loss": 0.5}, "fingerprint": fingerprint}
        body |= {"generators": generators} if generators else {}
        return self.send("POST", f"{self.path}/checkpoints", json=body)

    def end(self, outcome: str, step: int, failure: str | None = None, total_steps: int = 0) -> httpx.Response:
        cause = {"failure": failure, "message": f"it was {failure}", "step": step} if failure else None
        body = {"outcome": outcome, "step": step, "total_steps": total_steps, "cause": cause}
        return self.send("POST", f"{self.path}/end", json=body)


@dataclass
class SimulatedErrand:
    """An errand, with the token of its claim."""

    client: TestClient
    grant: dict[str, Any]

    def send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.grant['token']}"} | arguments.pop("headers", {})
        address = f"/api/v1/worker/errands/{self.grant['errand_id']}/{path}"
        return self.client.request(method, address, headers=headers, **arguments)

    def fetch(self) -> bytes:
        answer = self.send("GET", "blob")
        assert answer.status_code == 200, answer.text
        return answer.content

    def answer(self, **message: Any) -> httpx.Response:
        return self.send("POST", "result", json=message)

    def found(self, **changes: Any) -> httpx.Response:
        """Say that the file is a good model."""
        return self.answer(result=base_facts(**changes))

    def refuse(self, message: str = "it is no file of weights") -> httpx.Response:
        return self.answer(problem={"code": "unusable", "message": message})


def base_facts(**changes: Any) -> dict[str, Any]:
    """Return what an inspection finds in a small model of copper."""
    tensors = [{"name": "descriptor.w", "shape": [2, 3], "dtype": "float64", "is_parameter": True, "sha256": "0" * 64}]
    branch = {"name": "", "type_map": ["Cu"], "model": {"type_map": ["Cu"]}, "parameters": 6}
    facts = {
        "engine": "deepmd",
        "form": "checkpoint",
        "architecture": "se_e2_a",
        "library": "deepmd-kit 3.2.0",
        "branches": [branch],
        "tensors": tensors,
        "parameters": 6,
        "step": 100,
    }
    return facts | changes


def add_worker(
    client: TestClient, worker_id: str, slots: int = 2, engines: dict[str, str] | None = None, gpus: int = 0
) -> SimulatedWorker:
    """Introduce a worker."""
    hello = {
        "worker_id": worker_id,
        "name": f"{worker_id}:1",
        "host": worker_id,
        "engines": engines or {"deepmd": "3.2.0"},
        "slots": slots,
        "gpus": [{"index": index, "name": "H100", "memory_bytes": 1} for index in range(gpus)],
    }
    answer = client.post("/api/v1/worker/hello", json=hello)
    assert answer.status_code == 200, answer.text
    return SimulatedWorker(client, worker_id)


def arrow(steps: list[int], columns: dict[str, list[float | None]]) -> bytes:
    """Return metrics as the protocol carries them."""
    import pyarrow as pa

    names = ["step", *columns]
    arrays = [pa.array(steps, pa.int64()), *(pa.array(values, pa.float64()) for values in columns.values())]
    batch = pa.record_batch(arrays, names=names)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()
