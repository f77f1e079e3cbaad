"""The account of a campaign: what there is of every job, held against what an undisturbed run leaves."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.conftest import World, wait_for
from tests.faults.toy.trainer import walk

_LETS_GO = frozenset({"requeued", "completed", "failed", "cancelled", "paused"})
"""Lines of a timeline that end an execution."""


@dataclass
class Account:
    """Settles jobs of `steps` steps. `damaged`: SHA-256 of the files that the campaign itself has harmed."""

    world: World
    steps: int
    damaged: Collection[str]
    executions: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)

    def settle(self, job_id: int) -> None:
        """Check one job that has ended."""
        job = self.world.job(job_id)
        self.executions += len(job["attempts"])
        if job["state"] != "completed":
            self.lost.append(f"job {job_id} is {job['state']}: {job['cause']}")
            return
        if sum(attempt["state"] == "completed" for attempt in job["attempts"]) != 1:
            self.doubled.append(f"job {job_id} was completed more than once: {job['attempts']}")
        expected = undisturbed(job["seed"], self.steps)
        self._settle_executions(job_id)
        self._settle_metrics(job_id, expected)
        self._settle_checkpoints(job_id, expected)

    def _settle_executions(self, job_id: int) -> None:
        events = self.world.events(job_id)
        self.doubled += [f"job {job_id}: {what}" for what in overlaps(events)]
        starts = Counter(event["attempt"] for event in events if event["kind"] == "toy")
        self.doubled += [f"job {job_id}: execution {number} ran {n} times" for number, n in starts.items() if n > 1]

    def _settle_metrics(self, job_id: int, expected: Sequence[float]) -> None:
        steps, values = self.world.series(job_id)
        if len(set(steps)) != len(steps):
            self.doubled.append(f"job {job_id} has steps twice")
        if [*zip(steps, values, strict=True)] != [*enumerate(expected, start=1)]:
            self.lost.append(f"the metrics of job {job_id} are not those of an undisturbed run")

    def _settle_checkpoints(self, job_id: int, expected: Sequence[float]) -> None:
        """Every checkpoint that is listed and was not damaged on purpose can be had, and holds the right state."""
        found = self.world.checkpoints(job_id)
        if self.steps not in [checkpoint["step"] for checkpoint in found]:
            self.lost.append(f"job {job_id} has no checkpoint of its last step")
        for checkpoint in found:
            file = checkpoint["files"][0]
            if file["sha256"] in self.damaged:
                continue
            answer = self.world.http.get(f"/api/v1/jobs/{job_id}/checkpoints/{checkpoint['id']}/{file['name']}")
            is_whole = answer.is_success and hashlib.sha256(answer.content).hexdigest() == file["sha256"]
            state = {"step": checkpoint["step"], "value": expected[checkpoint["step"] - 1]}
            if not is_whole or json.loads(answer.content) != state:
                self.lost.append(f"checkpoint {checkpoint['step']} of job {job_id}: {answer.status_code}")

    def settle_store(self) -> None:
        """Let the service hash all that it keeps; only what the campaign has damaged may be bad."""
        begun = self.world.http.post("/api/v1/maintenance/verify")
        assert begun.status_code == 202, begun.text
        where = f"/api/v1/maintenance/verify/{begun.json()['id']}"
        done = wait_for(lambda: _unless_running(self.world.http.get(where).json()), "the store to be verified")
        assert done["state"] == "done", done
        for blob in done["damaged"]:
            if blob["sha256"] not in self.damaged:
                self.lost.append(f"the store's {blob['sha256']}: {blob['problem']}, used for {blob['uses']}")


def undisturbed(seed: int, steps: int) -> list[float]:
    """Return the state after every step of a run without accidents."""
    values = [0.0]
    for step in range(1, steps + 1):
        values.append(walk(seed, values[-1], step))
    return values[1:]


def overlaps(events: Sequence[dict[str, Any]]) -> list[str]:
    """Return where a timeline gives an execution away while another one holds the job. Its order is the database's."""
    found, holder = [], None
    for event in events:
        if event["kind"] == "claimed":
            if holder is not None:
                found.append(f"execution {event['attempt']} began while {holder} had the job")
            holder = event["attempt"]
        elif event["kind"] in _LETS_GO and event["attempt"] == holder:
            holder = None
    return found


def _unless_running(view: dict[str, Any]) -> dict[str, Any] | None:
    return None if view["state"] == "running" else view
