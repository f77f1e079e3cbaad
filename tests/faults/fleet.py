"""The workers of a campaign and the trainers on them."""

import random
import re
from contextlib import suppress
from pathlib import Path

import psutil

from tests.faults.conftest import WorkerProcess, World
from tests.faults.link import Link
from tests.faults.toy import clock

WORKERS, SLOTS = 2, 3
"""More slots than jobs under way, so that a dead worker's job waits for its lease and not for a slot."""


class Fleet:
    """Workers that reach the API over a link that can be cut, each with a cache and a clock of its own."""

    def __init__(self, world: World, link: Link, chance: random.Random) -> None:
        self._world = world
        self._link = link
        self._chance = chance
        self.living: list[WorkerProcess] = []

    def start(self) -> None:
        """Start as many workers as there should be."""
        while len(self.living) < WORKERS:
            self._start_worker()

    def replace(self, worker: WorkerProcess) -> None:
        """Start another worker in the place of one that is gone, or goes."""
        self.living.remove(worker)
        self.start()

    def any_worker(self) -> WorkerProcess:
        """Return a worker; one that ended although nobody wanted it to is a failure of its own."""
        for worker in self.living:
            assert worker.process.poll() is None, worker.log.read_text()[-4000:]
        return self._chance.choice(self.living)

    def any_trainer(self) -> psutil.Process | None:
        """Return one of the trainers that run, if any does."""
        trainers = self.trainers()
        return self._chance.choice(trainers) if trainers else None

    def trainers_of_jobs(self) -> list[tuple[int, psutil.Process]]:
        """Return jobs that are trained at the moment, in any order, each with a trainer."""
        found = [(doing[0], trainer) for trainer in self.trainers() if (doing := execution(trainer))]
        return self._chance.sample(found, len(found))

    def trainers(self) -> list[psutil.Process]:
        """Return all trainers that run."""
        return [trainer for worker in self.living for trainer in worker.trainers()]

    def _start_worker(self) -> None:
        # A cache for each, as on hosts of their own: what the server lost cannot be found next door.
        name = f"worker{len(self._world.workers)}"
        self.living.append(
            self._world.start_worker(
                CAIRN_API_URL=f"http://127.0.0.1:{self._link.port}",
                CAIRN_SLOTS=str(SLOTS),
                CAIRN_CACHE_DIR=str(self._world.work_dir / f"cache-{name}"),
                **{clock.VARIABLE: str(self._clock(name))},
            )
        )

    def clock_of(self, worker: WorkerProcess) -> Path:
        """Return the file that says how wrong a worker's clock is."""
        return self._clock(worker.log.stem)

    def _clock(self, name: str) -> Path:
        return Path(self._world.settings[clock.VARIABLE]).with_name(f"clock-{name}")

    def doubled(self) -> list[tuple[int, int]]:
        """Return executions, each a job and an attempt, that run in two processes at the moment."""
        found = [doing for trainer in self.trainers() if (doing := execution(trainer))]
        return sorted({doing for doing in found if found.count(doing) > 1})


def execution(trainer: psutil.Process) -> tuple[int, int] | None:
    """Return the job and the attempt that a process trains."""
    with suppress(psutil.NoSuchProcess):
        if match := re.match(r"cairn (\d+)-(\d+)", trainer.name()):
            return int(match[1]), int(match[2])
    return None
