"""A random, repeatable campaign of faults against one service, and the account of what they did to its jobs."""

import hashlib
import json
import math
import random
import re
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import psutil
import redis as redis_client

from app.wire.jobs import FINAL_STATES
from tests.faults.conftest import PATIENCE_S, WorkerProcess, World, kill, wait_for
from tests.faults.link import Link
from tests.faults.toy.trainer import walk

LEASE_S = 5.0
"""Short, because dead workers are waited for again and again; one that is lost by mistake is one fault more."""
STEPS = 120
EVERY = 20
AT_ONCE = 3
"""Jobs that are under way: fewer than there are slots, so that a dead worker's job waits for its lease and not for a slot."""
WORKERS, SLOTS = 2, 2


class DatabaseServer(Protocol):
    """What a campaign needs of a PostgreSQL server of its own."""

    pgdata: Path

    def get_pid(self) -> int | None:
        """Return the process id of its postmaster."""

    def get_uri(self) -> str:
        """Return where it is reached."""

    def ensure_postgres_running(self) -> None:
        """Start it, if it does not run."""


@dataclass
class Loss:
    """A job's execution whose worker was killed."""

    job: int
    attempt: int
    at: datetime


@dataclass
class Report:
    """What a campaign did, and how it ended."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    executions: int = 0
    lost: list[str] = field(default_factory=list)
    """What is missing: jobs without an end, steps without a metric, checkpoints without their bytes."""
    doubled: list[str] = field(default_factory=list)
    """What is there twice: completed executions, steps."""
    recoveries: list[float] = field(default_factory=list)
    """Lease periods between the death of a worker and the next execution of its job."""

    def __str__(self) -> str:
        kinds = "\n".join(f"  {count:4} {kind}" for kind, count in sorted(self.faults.items()))
        recovery = "none"
        if self.recoveries:
            ordered = sorted(self.recoveries)
            most = ordered[math.ceil(0.95 * len(ordered)) - 1]
            median = statistics.median(ordered)
            recovery = (
                f"{len(ordered)}; median {median:.2f}, 95 % within {most:.2f}, longest {ordered[-1]:.2f} lease periods"
            )
        return (
            f"{self.faults.total()} faults (seed {self.seed})\n{kinds}\n"
            f"{self.jobs} jobs in {self.executions} executions; lost: {len(self.lost)}, doubled: {len(self.doubled)}\n"
            f"executions of dead workers that ran again: {recovery}\n" + "\n".join(self.lost + self.doubled)
        )


class Campaign:
    """Keeps jobs coming and does them harm. All that is random comes from the seed."""

    def __init__(self, world: World, link: Link, seed: int, database: DatabaseServer | None = None) -> None:
        self.world = world
        self.link = link
        self.database = database
        self.random = random.Random(seed)
        self.report = Report(seed)
        self.under_way: list[int] = []
        self.ended: list[int] = []
        self._losses: list[Loss] = []
        self._damaged: set[str] = set()
        self._frozen: list[tuple[float, psutil.Process]] = []
        self._living: list[WorkerProcess] = []
        self.kinds: dict[str, Callable[[], bool]] = {
            "trainer killed": self.kill_trainer,
            "forkserver killed": self.kill_forkserver,
            "worker killed": self.kill_worker,
            "worker told to stop": self.stop_worker,
            "worker frozen": self.freeze_worker,
            "trainer frozen": self.freeze_trainer,
            "API killed": self.kill_api,
            "API frozen": self.freeze_api,
            "broker killed, its data gone": self.kill_redis,
            "broker emptied": self.empty_redis,
            "network cut": self.cut_network,
            "doorbells doubled and out of order": self.ring_wildly,
            "newest checkpoint damaged": self.damage_checkpoint,
        }
        if database is not None:
            self.kinds["database server killed"] = self.kill_database

    def run(self, faults: int) -> Report:
        """Do `faults` faults, each kind about as often; then let every job end, and settle the account."""
        for _ in range(WORKERS):
            self._start_worker()
        self._keep_busy()
        wait_for(lambda: all(worker.trainers() for worker in self._living), "the first trainings")
        while self.report.faults.total() < faults:
            self._one_of_each(faults)
        self._thaw(all_of_them=True)
        for job in [*self.under_way]:
            self._wait_end(job)
        for job in self.ended:
            self._settle(job)
        self._measure_recoveries()
        return self.report

    def _one_of_each(self, limit: int) -> None:
        order = sorted(self.kinds)
        self.random.shuffle(order)
        for kind in order:
            if self.report.faults.total() == limit:
                return
            # Sometimes the next one comes before anybody has recovered from this one.
            time.sleep(self.random.choice((0.0, 0.2, 0.5, 1.0)))
            wait_for(partial(self._do, kind), f"something to do to it: {kind}")
            self.report.faults[kind] += 1

    def _do(self, kind: str) -> bool:
        self._thaw()
        self._keep_busy()
        return self.kinds[kind]()

    # --- faults: each returns whether there was anything to harm ------------------------------------------------------

    def kill_trainer(self) -> bool:
        """The out-of-memory killer, say."""
        return self._with_trainer(kill)

    def freeze_trainer(self) -> bool:
        """A disk that hangs, for less than a lease: nobody may notice."""
        return self._with_trainer(lambda trainer: self._freeze(trainer, 0.5 * LEASE_S))

    def kill_forkserver(self) -> bool:
        """And all trainers with it."""
        worker = self._any_worker()
        with suppress(psutil.NoSuchProcess):
            trainers = {trainer.pid for trainer in worker.trainers()}
            for process in psutil.Process(worker.process.pid).children():
                if process.pid not in trainers:
                    kill(process)
                    return True
        return False

    def kill_worker(self) -> bool:
        """Its host is gone; another one comes. Nothing of it may live on."""
        worker = self._any_worker()
        self._note_losses(worker)
        family = worker.family()
        kill(worker.process)
        self._replace(worker)
        wait_for(lambda: not any(_lives(process) for process in family), "the end of a killed worker's processes")
        return True

    def stop_worker(self) -> bool:
        """An upgrade: its jobs go back to the queue."""
        worker = self._any_worker()
        self._thaw(all_of_them=True)
        worker.process.terminate()
        self._replace(worker)
        return True

    def freeze_worker(self) -> bool:
        """A suspended host, whose clock stands still: back before its lease is over, or after."""
        worker = self._any_worker()
        self._freeze(psutil.Process(worker.process.pid), self.random.uniform(0.3, 1.8) * LEASE_S)
        return True

    def kill_api(self) -> bool:
        """Under load: all that was not committed did not happen."""
        self.world.kill_api()
        time.sleep(self.random.choice((0.0, 0.5, 1.5)))
        self.world.start_api()
        return True

    def freeze_api(self) -> bool:
        """Requests that time out and are carried out all the same."""
        assert self.world.api is not None
        self._freeze(psutil.Process(self.world.api.pid), 0.0)
        time.sleep(self.random.uniform(0.2, 0.8) * LEASE_S)
        self._thaw(all_of_them=True)
        return True

    def kill_database(self) -> bool:
        """What it had said was committed is there again."""
        assert self.database is not None
        postmaster = psutil.Process(self.database.get_pid())
        family = [postmaster, *postmaster.children()]
        kill(postmaster)
        wait_for(lambda: not any(_lives(process) for process in family), "the end of a killed database server")
        time.sleep(self.random.choice((0.0, 0.5, 2.0)))
        # Where nobody waits for orphans it stays a zombie, and its locks seem to be a living server's.
        for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (self.database.pgdata / lock).unlink(missing_ok=True)
        self.database.ensure_postgres_running()
        wait_for(self.world.is_up, "an API that has found its database again")
        return True

    def kill_redis(self) -> bool:
        """It keeps nothing: every message is lost."""
        self.world.redis.kill()
        time.sleep(self.random.choice((0.0, 0.5)))
        self.world.redis.start()
        return True

    def empty_redis(self) -> bool:
        """Every message is lost, and nobody gets to know it."""
        with redis_client.Redis.from_url(self.world.redis.url) as redis:
            redis.flushall()
        return True

    def cut_network(self) -> bool:
        """Between all workers and the API, in the middle of whatever is being sent."""
        self.link.cut()
        time.sleep(self.random.uniform(0.1, 1.2) * LEASE_S)
        self.link.mend()
        return True

    def ring_wildly(self) -> bool:
        """For executions past, present and to come, again and again, so that workers claim the same one at once."""
        rings = [(job, attempt) for job in self.under_way for attempt in self._attempts_about(job) for _ in range(3)]
        self.random.shuffle(rings)
        for job, attempt in rings:
            self.world.ring(job, attempt)
        return bool(rings)

    def damage_checkpoint(self) -> bool:
        """Corrupt, truncated or missing; then its job needs it."""
        for job in self.random.sample(self.under_way, len(self.under_way)):
            own = [checkpoint for checkpoint in self.world.checkpoints(job) if checkpoint["step"] < STEPS]
            trainers = [trainer for trainer in self._trainers() if _job_of(trainer) == job]
            if own and trainers:
                newest = max(own, key=lambda checkpoint: int(checkpoint["step"]))
                self._damage(newest["files"][0]["sha256"])
                kill(trainers[0])
                return True
        return False

    # --- means --------------------------------------------------------------------------------------------------------

    def _damage(self, sha256: str) -> None:
        path = self.world.data_dir / "blobs" / sha256[:2] / sha256[2:]
        with suppress(FileNotFoundError):  # retention was faster
            data = path.read_bytes()
            self._damaged.add(sha256)
            path.unlink()
            how = self.random.choice(("missing", "truncated", "corrupt"))
            if how != "missing":
                path.write_bytes(data[: len(data) // 2] if how == "truncated" else bytes([data[0] ^ 1]) + data[1:])

    def _start_worker(self) -> None:
        # A cache for each, as on hosts of their own: what the server lost cannot be found next door.
        number = len(self.world.workers)
        self._living.append(
            self.world.start_worker(
                CAIRN_API_URL=f"http://127.0.0.1:{self.link.port}",
                CAIRN_SLOTS=str(SLOTS),
                CAIRN_CACHE_DIR=str(self.world.data_dir / f"cache{number}"),
            )
        )

    def _replace(self, worker: WorkerProcess) -> None:
        self._living.remove(worker)
        self._start_worker()

    def _any_worker(self) -> WorkerProcess:
        """Return a worker; one that ended although nobody wanted it to is a failure of its own."""
        for worker in self._living:
            assert worker.process.poll() is None, worker.log.read_text()[-4000:]
        return self.random.choice(self._living)

    def _trainers(self) -> list[psutil.Process]:
        return [trainer for worker in self._living for trainer in worker.trainers()]

    def _with_trainer(self, harm: Callable[[psutil.Process], None]) -> bool:
        trainers = self._trainers()
        if not trainers:
            return False
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            harm(self.random.choice(trainers))
            return True
        return False

    def _freeze(self, process: psutil.Process, seconds: float) -> None:
        process.send_signal(signal.SIGSTOP)
        self._frozen.append((time.monotonic() + seconds, process))

    def _thaw(self, *, all_of_them: bool = False) -> None:
        due = [entry for entry in self._frozen if all_of_them or entry[0] <= time.monotonic()]
        for entry in due:
            self._frozen.remove(entry)
            with suppress(psutil.NoSuchProcess):
                entry[1].send_signal(signal.SIGCONT)

    def _attempts_about(self, job: int) -> list[int]:
        newest = len(self.world.job(job)["attempts"])
        return [max(1, newest), newest + 1, newest + 2]

    def _keep_busy(self) -> None:
        """Submit as many jobs as have ended."""
        for job in [*self.under_way]:
            if self.world.job(job)["state"] in FINAL_STATES:
                self.under_way.remove(job)
                self.ended.append(job)
        while len(self.under_way) < AT_ONCE:
            job = self.world.submit(seed=self._seed_of(self.report.jobs), steps=STEPS, every=EVERY, step_s=0.03)
            self.report.jobs += 1
            self.under_way.append(job)

    def _seed_of(self, number: int) -> int:
        return 1000 * self.report.seed + number

    def _wait_end(self, job: int) -> None:
        wait_for(lambda: self.world.job(job)["state"] in FINAL_STATES, f"the end of job {job}", 2 * PATIENCE_S)
        self.under_way.remove(job)
        self.ended.append(job)

    # --- the account --------------------------------------------------------------------------------------------------

    def _note_losses(self, worker: WorkerProcess) -> None:
        for job in self.under_way:
            for attempt in self.world.job(job)["attempts"][-1:]:
                if attempt["state"] == "running" and attempt["worker"] == worker.log.stem:
                    self._losses.append(Loss(job, attempt["number"], datetime.now(UTC)))

    def _measure_recoveries(self) -> None:
        for loss in self._losses:
            for attempt in self.world.job(loss.job)["attempts"]:
                if attempt["number"] == loss.attempt + 1:
                    took = datetime.fromisoformat(attempt["started_at"]) - loss.at
                    self.report.recoveries.append(took.total_seconds() / LEASE_S)

    def _settle(self, job_id: int) -> None:
        """Hold what there is of a job against what an undisturbed run leaves."""
        job = self.world.job(job_id)
        self.report.executions += len(job["attempts"])
        if job["state"] != "completed":
            self.report.lost.append(f"job {job_id} is {job['state']}: {job['cause']}")
            return
        if sum(attempt["state"] == "completed" for attempt in job["attempts"]) != 1:
            self.report.doubled.append(f"job {job_id} was completed more than once: {job['attempts']}")
        self._settle_metrics(job_id, job["seed"])
        self._settle_checkpoints(job_id, job["seed"])

    def _settle_metrics(self, job_id: int, seed: int) -> None:
        steps, values = self.world.series(job_id)
        if len(set(steps)) != len(steps):
            self.report.doubled.append(f"job {job_id} has steps twice")
        if [*zip(steps, values, strict=True)] != [*enumerate(_undisturbed(seed), start=1)]:
            self.report.lost.append(f"the metrics of job {job_id} are not those of an undisturbed run")

    def _settle_checkpoints(self, job_id: int, seed: int) -> None:
        """Every checkpoint that is listed and was not damaged on purpose can be had, and holds the right state."""
        expected = _undisturbed(seed)
        found = self.world.checkpoints(job_id)
        if STEPS not in [checkpoint["step"] for checkpoint in found]:
            self.report.lost.append(f"job {job_id} has no checkpoint of its last step")
        for checkpoint in found:
            file = checkpoint["files"][0]
            if file["sha256"] in self._damaged:
                continue
            answer = self.world.http.get(f"/api/v1/jobs/{job_id}/checkpoints/{checkpoint['id']}/{file['name']}")
            is_whole = answer.is_success and hashlib.sha256(answer.content).hexdigest() == file["sha256"]
            state = {"step": checkpoint["step"], "value": expected[checkpoint["step"] - 1]}
            if not is_whole or json.loads(answer.content) != state:
                self.report.lost.append(f"checkpoint {checkpoint['step']} of job {job_id}: {answer.status_code}")


def _undisturbed(seed: int) -> list[float]:
    values = [0.0]
    for step in range(1, STEPS + 1):
        values.append(walk(seed, values[-1], step))
    return values[1:]


def _job_of(trainer: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        if match := re.match(r"cairn (\d+)-", trainer.name()):
            return int(match[1])
    return 0


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
