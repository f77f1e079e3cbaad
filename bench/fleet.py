"""Many workers that train, each as often as a real one speaks: how long the API takes to answer them, and people beside.

`python -m bench.fleet [--database sqlite|postgresql|both] [--workers N] [--seconds N]`
"""

import argparse
import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np
from pydantic import BaseModel

from app.wire.worker import METRICS_MEDIA_TYPE, ClaimRequest, Heartbeat, Hello, Presence, Welcome
from bench.serving import Served, queue_jobs, served
from bench.storage import batch, line
from worker.messages import SHIP_S, Pace
from worker.settings import WorkerSettings

GOAL_MS = 250
SPOOL_S = 0.5
"""Seconds between two batches of a trainer (`flush_s` of `worker/spool.py`)."""
BATCH_STEPS = 10
LOG_S = 5.0
"""Seconds between two lines of a training's log: one every hundred steps."""
LINE = b"batch    1000: trn: rmse = 1.00e+00, rmse_e = 1.00e+00, rmse_f = 1.00e+00, lr = 1.00e-03\n"
LOOK_S = 0.5
"""Seconds between two looks of somebody at the list of jobs and at a chart."""
WARM_UP_S = 10.0
CHANCE = np.random.default_rng(1)


@dataclass
class Account:
    """Answer times in seconds, by kind of request."""

    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    counting: bool = False

    async def time(self, kind: str, request: Awaitable[bytes]) -> bytes:
        """Wait for an answer and note how long it took."""
        started = time.perf_counter()
        answer = await request
        if self.counting:
            self.took[kind].append(time.perf_counter() - started)
        return answer


class Connection:
    """One kept-alive connection. A client library takes as long over a request as the server, on the same two cores."""

    def __init__(self, server: Served) -> None:
        self._port = int(server.url.rpartition(":")[2])

    async def send(
        self, path: str, token: str, body: bytes = b"", kind: str = "application/json", method: str = "POST"
    ) -> bytes:
        """Return the body of a successful answer; the server must not close the connection."""
        if not hasattr(self, "_reader"):
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"{method} /api/v1{path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in answer.split("\r\n")[1:] if line)
        content = await self._reader.readexactly(int(headers.get("content-length", 0)))
        assert answer.split(" ", 2)[1].startswith("2"), (method, path, answer, content)
        return content


class SimulatedWorker:
    """One worker with one training, which sends what a real one sends and computes nothing."""

    def __init__(self, server: Served, account: Account, number: int) -> None:
        self.server, self.account, self.id = server, account, f"bench-{number}"
        self.worker_token = (server.data / "worker.token").read_text().strip()
        self.batches = self.lines = self.logged = 0

    async def start(self, job_id: int) -> None:
        """Say hello, and claim a job."""
        at = Connection(self.server)
        hello = Hello(worker_id=self.id, name=self.id, host=self.id, engines={"deepmd": "3"}, slots=1)
        self.welcome = Welcome.model_validate_json(await at.send("/worker/hello", self.worker_token, _json(hello)))
        request = _json(ClaimRequest(worker_id=self.id, job_id=job_id, attempt=1))
        claim = json.loads(await at.send("/worker/claim", self.worker_token, request))
        self.token, self.path = claim["token"], f"/worker/attempts/{claim['attempt_id']}"
        self.began = time.monotonic()

    async def run(self) -> None:
        """Train until cancelled."""
        presence_s = min(WorkerSettings().presence_s, self.welcome.lease_s / 3)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(self.welcome.heartbeat_s, self._beat))
            group.create_task(self._every(presence_s, self._present))
            group.create_task(self._deliver())

    async def _every(self, period_s: float, act: Callable[[Connection], Awaitable[None]]) -> None:
        """Act at a fixed rate, on a connection of its own. Workers do not start at the same instant."""
        at = Connection(self.server)
        due = time.monotonic() + CHANCE.uniform(0, period_s)
        while True:
            await asyncio.sleep(due - time.monotonic())
            await act(at)
            due = max(due + period_s, time.monotonic())

    async def _deliver(self) -> None:
        """Ship what the trainer spools, with the pauses that a worker makes."""
        at, pace = Connection(self.server), Pace()
        await asyncio.sleep(CHANCE.uniform(0, SHIP_S))
        while True:
            began = time.monotonic()
            await self._ship_metrics(at)
            pace.note(time.monotonic() - began)
            await self._ship_log(at)
            await asyncio.sleep(pace.pause_s())

    async def _beat(self, at: Connection) -> None:
        beat = Heartbeat(phase="training", step=self._step(), steps_per_s=BATCH_STEPS / SPOOL_S + CHANCE.random())
        request = at.send(f"{self.path}/heartbeat", self.token, _json(beat))
        assert json.loads(await self.account.time("heartbeat", request))["action"] == "continue"

    async def _present(self, at: Connection) -> None:
        message = _json(Presence(worker_id=self.id, busy_slots=1))
        await self.account.time("presence", at.send("/worker/presence", self.worker_token, message))

    async def _ship_metrics(self, at: Connection) -> None:
        """Send the batches that a trainer has spooled since the last time."""
        first, self.batches = self.batches, int((time.monotonic() - self.began) / SPOOL_S)
        if self.batches > first:
            body = batch(first * BATCH_STEPS, (self.batches - first) * BATCH_STEPS)
            request = at.send(f"{self.path}/metrics?seq={first}", self.token, body, METRICS_MEDIA_TYPE)
            await self.account.time("metrics", request)

    async def _ship_log(self, at: Connection) -> None:
        """Send the lines that were written since the last time."""
        lines = b""
        while (self.lines + 1) * LOG_S <= time.monotonic() - self.began:
            lines, self.lines = lines + LINE, self.lines + 1
        if lines:
            address, self.logged = f"{self.path}/logs?offset={self.logged}", self.logged + len(lines)
            await self.account.time("log", at.send(address, self.token, lines, "application/octet-stream"))

    def _step(self) -> int:
        return int((time.monotonic() - self.began) * BATCH_STEPS / SPOOL_S)


def _json(message: BaseModel) -> bytes:
    return message.model_dump_json().encode()


async def look(server: Served, account: Account, job_id: int) -> None:
    """Look at the list of jobs, and at a chart of one of them, again and again."""
    token, at = (server.data / "user.token").read_text().strip(), Connection(server)
    chart = f"/jobs/{job_id}/metrics?keys=train/loss&max_points=500"
    while True:
        await account.time("list of jobs", at.send("/jobs?limit=50", token, method="GET"))
        await account.time("chart", at.send(chart, token, method="GET"))
        await asyncio.sleep(LOOK_S)


async def measure(server: Served, workers: int, seconds: float) -> None:
    """Let the fleet train for so long; print what the answers took."""
    account, jobs = Account(), queue_jobs(server.database_url, workers)
    fleet = [SimulatedWorker(server, account, number) for number in range(workers)]
    for worker, job_id in zip(fleet, jobs, strict=True):
        await worker.start(job_id)
    tasks = [asyncio.create_task(worker.run()) for worker in fleet]
    tasks.append(asyncio.create_task(look(server, account, jobs[0])))
    await asyncio.sleep(WARM_UP_S)
    account.counting, used, own = True, server.cpu_s(), time.process_time()
    ended, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in ended:
        task.result()
    used, own = server.cpu_s() - used, time.process_time() - own
    for task in tasks:
        task.cancel()
    report(account, seconds, used)
    line("processor time of these workers", 100 * own / seconds, "%")


def report(account: Account, seconds: float, used_s: float) -> None:
    """Print the figures."""
    everything = sorted(took for kind in account.took.values() for took in kind)
    line("answers", len(everything) / seconds, "1/s")
    for kind, took in [*sorted(account.took.items()), ("all", everything)]:
        median, last = (1000 * float(value) for value in np.percentile(took, [50, 99]))
        line(f"{kind}, median", median, "ms")
        line(f"{kind}, p99", last, "ms", GOAL_MS)
    line("processor time of the server", 100 * used_s / seconds, "%")
    line("  for one answer", 1000 * used_s / len(everything), "ms")


def main() -> None:
    """Run and print one table per database."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    for kind in ["sqlite", "postgresql"] if options.database == "both" else [options.database]:
        with served(kind, CAIRN_LEASE_S="30") as server:
            print(f"\n{kind:46}{'measured':>14}{'wanted':>12}{'ratio':>8}")
            asyncio.run(measure(server, options.workers, options.seconds))


if __name__ == "__main__":
    main()
