"""A random, repeatable campaign of faults against one service: jobs keep coming, and are done harm."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import psutil

from app.wire.states import FINAL_STATES
from tests.faults.account import Account
from tests.faults.conftest import PATIENCE_S, World, is_gone, wait_for
from tests.faults.disk import Disk
from tests.faults.fleet import Fleet, execution
from tests.faults.harm import KINDS
from tests.faults.link import Link
from tests.faults.report import Recovery, Report
from tests.faults.toy import clock

LEASE_S = 5.0
"""Short, because dead workers are waited for again and again; one that is lost by mistake is one fault more."""
STEPS = 120
EVERY = 20
AT_ONCE = 3
"""Jobs that are under way."""


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
    """An execution that was taken from its worker."""

    fault: str
    job: int
    attempt: int
    at: float


class Campaign:
    """Keeps jobs coming and does them harm. All that is random comes from the seed."""

    def __init__(
        self,
        world: World,
        link: Link,
        seed: int,
        database: DatabaseServer | None = None,
        disks: dict[str, Disk] | None = None,
    ) -> None:
        self.world = world
        self.link = link
        self.database = database
        self.disks = disks or {}
        """Those that can be filled: `server`, where its data are, and `worker`, where all run directories are."""
        self.random = random.Random(seed)
        self.fleet = Fleet(world, link, self.random)
        self.lease_s = world.lease_s
        self.report = Report("SQLite" if database is None else "PostgreSQL", seed, world.lease_s)
        self.under_way: list[int] = []
        self.ended: list[int] = []
        self.damaged: set[str] = set()
        self.server_clock = Path(world.settings[clock.VARIABLE])
        self._diary = self.server_clock.with_name("faults-done.txt")
        self._losses: list[Loss] = []
        self._pending: list[tuple[float, Callable[[], object]]] = []
        self.kinds = self._possible_kinds()

    def _possible_kinds(self) -> list[str]:
        kinds = set(KINDS)
        if self.database is None:
            kinds.remove("database server killed")
        if not self.disks:
            kinds -= {"server's disk full", "worker's disk full"}
            self.report.left_out.append("        no full disks: this user may not mount small ones")
        return sorted(kinds)

    def run(self, faults: int) -> Report:
        """Do `faults` faults, each kind about as often; then let every job end, and settle the account."""
        started = time.monotonic()
        self.fleet.start()
        self._keep_busy()
        wait_for(self.fleet.trainers, "the first training")
        while self.report.faults.total() < faults:
            self._one_of_each(faults)
        self._make_good(all_of_it=True)
        wait_for(self._all_ended, "the end of all jobs", 2 * PATIENCE_S)
        self._settle()
        self.report.seconds = time.monotonic() - started
        return self.report

    def _one_of_each(self, limit: int) -> None:
        order = [*self.kinds]
        self.random.shuffle(order)
        for kind in order:
            if self.report.faults.total() == limit:
                return
            # Sometimes the next one comes before anybody has recovered from this one.
            time.sleep(self.random.choice((0.0, 0.1, 0.2, 0.5)))
            wait_for(partial(self._do, kind), f"something to do to it: {kind}")
            self.report.faults[kind] += 1
            with self._diary.open("a") as diary:
                diary.write(f"{time.time():.3f} {kind}\n")

    def _do(self, kind: str) -> bool:
        self._make_good()
        self._keep_busy()
        for job, attempt in self.fleet.doubled():
            self.report.doubled.append(f"execution {attempt} of job {job} ran in two processes at once")
        return KINDS[kind](self)

    # --- what faults are done with ------------------------------------------------------------------------------------

    def after(self, seconds: float, then: Callable[[], object]) -> None:
        """Call `then` once so much time has passed, while other faults go on: it makes this one good."""
        self._pending.append((time.monotonic() + seconds, then))

    def _make_good(self, *, all_of_it: bool = False) -> None:
        due = [entry for entry in self._pending if all_of_it or entry[0] <= time.monotonic()]
        for entry in due:
            self._pending.remove(entry)
            entry[1]()

    def start_api(self) -> None:
        """Start the API, again and again should it not start, as `cairn up` does: its disk may be full at the moment."""
        self.world.launch_api()
        wait_for(self._is_api_up, "the API")

    def _is_api_up(self) -> bool:
        self._make_good()
        assert self.world.api is not None
        if is_gone(self.world.api):
            self.world.launch_api()
            return False
        return self.world.is_up()

    def executions_about(self) -> list[tuple[int, int]]:
        """Return executions of the jobs under way: the newest ones, and two that are still to come."""
        found = []
        for job in self.under_way:
            newest = len(self.world.job(job)["attempts"])
            found += [(job, attempt) for attempt in (max(1, newest), newest + 1, newest + 2)]
        return found

    def newest_checkpoint(self, job: int) -> str | None:
        """Return the SHA-256 of a job's newest checkpoint, if it has one before its last step."""
        steps = [checkpoint for checkpoint in self.world.checkpoints(job) if checkpoint["step"] < STEPS]
        return str(steps[0]["files"][0]["sha256"]) if steps else None

    def note_loss(self, fault: str, trainer: psutil.Process) -> None:
        """Remember that the execution of this trainer is lost from now on."""
        if doing := execution(trainer):
            self.note_loss_of(fault, *doing)

    def note_loss_of(self, fault: str, job: int, attempt: int) -> None:
        """Remember that an execution is lost from now on."""
        self._losses.append(Loss(fault, job, attempt, time.time()))

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def submit(self) -> int | None:
        """Submit a job; None: the server has no room for it at the moment."""
        config = {"steps": STEPS, "every": EVERY, "step_s": 0.03}
        message = {"engine": "toy", "config": config, "seed": self._next_seed(), "on_existing": "new"}
        answer = self.world.http.post("/api/v1/jobs", json=message)
        if answer.status_code in (503, 507):
            return None
        assert answer.status_code == 201, answer.text
        job = int(answer.json()["id"])
        self.world.jobs.append(job)
        self.under_way.append(job)
        self.report.jobs += 1
        return job

    def _next_seed(self) -> int:
        return 1000 * self.report.seed + self.report.jobs

    def _keep_busy(self) -> None:
        """Submit as many jobs as have ended."""
        for job in [*self.under_way]:
            if self._has_ended(self.world.job(job)):
                self.under_way.remove(job)
                self.ended.append(job)
        while len(self.under_way) < AT_ONCE and self.submit() is not None:
            pass

    def _has_ended(self, job: dict[str, Any]) -> bool:
        """Return whether a job is over. One that a full disk ended goes on as soon as somebody has made room."""
        if job["state"] == "failed" and job["cause"]["failure"] == "disk-full":
            self.world.http.post(f"/api/v1/jobs/{job['id']}/retry")
            return False
        return job["state"] in FINAL_STATES

    def _all_ended(self) -> bool:
        for job in [*self.under_way]:
            if self._has_ended(self.world.job(job)):
                self.under_way.remove(job)
                self.ended.append(job)
        return not self.under_way

    # --- the account --------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        account = Account(self.world, STEPS, self.damaged)
        for job in self.ended:
            account.settle(job)
        account.settle_store()
        self.report.executions = account.executions
        self.report.lost += account.lost
        self.report.doubled += account.doubled
        for loss in self._losses:
            self._measure(loss)

    def _measure(self, loss: Loss) -> None:
        """Note when the next execution's trainer ran, by the trainers' clock, which is always right."""
        for event in self.world.events(loss.job):
            if event["kind"] == "toy" and event["attempt"] == loss.attempt + 1 and event["data"]["at"] > loss.at:
                periods = (event["data"]["at"] - loss.at) / self.lease_s
                self.report.recoveries.append(Recovery(loss.fault, periods))
                return
        self.report.struck_again += 1
