"""Faults of processes: killed, frozen, told to stop. Each returns whether there was anything to harm."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import httpx
import psutil
import redis as redis_client

from tests.faults.conftest import PATIENCE_S, is_gone, kill, wait_for

if TYPE_CHECKING:
    from tests.faults.campaign import Campaign

CROWD = 4
"""Threads that read while the API is restarted."""


def kill_trainer(campaign: "Campaign") -> bool:
    """The out-of-memory killer, say."""
    trainer = campaign.fleet.any_trainer()
    if trainer is None:
        return False
    campaign.note_loss("trainer killed", trainer)
    return signalled(trainer, signal.SIGKILL)


def freeze_trainer(campaign: "Campaign") -> bool:
    """A disk that hangs, for less than a lease: nobody may notice."""
    trainer = campaign.fleet.any_trainer()
    return trainer is not None and _frozen_for(campaign, trainer, 0.5 * campaign.lease_s)


def kill_forkserver(campaign: "Campaign") -> bool:
    """And all trainers with it."""
    worker = campaign.fleet.any_worker()
    with suppress(psutil.NoSuchProcess):
        trainers = {trainer.pid for trainer in worker.trainers()}
        for process in psutil.Process(worker.process.pid).children():
            if process.pid not in trainers:
                return signalled(process, signal.SIGKILL)
    return False


def kill_worker(campaign: "Campaign") -> bool:
    """Supervisors and Celery with it: its host is gone, and another one comes. Nothing of it may live on."""
    worker = campaign.fleet.any_worker()
    for trainer in worker.trainers():
        campaign.note_loss("worker killed", trainer)
    family = worker.family()
    kill(worker.process)
    campaign.fleet.replace(worker)
    wait_for(lambda: all(is_gone(process) for process in family), "the end of a killed worker's processes")
    return True


def stop_worker(campaign: "Campaign") -> bool:
    """An upgrade: its jobs go back to the queue."""
    worker = campaign.fleet.any_worker()
    worker.process.terminate()
    worker.process.send_signal(signal.SIGCONT)  # should it be frozen
    campaign.fleet.replace(worker)
    return True


def freeze_worker(campaign: "Campaign") -> bool:
    """A suspended host, whose clock stands still: back before its lease is over, or after."""
    worker = campaign.fleet.any_worker()
    seconds = campaign.random.uniform(0.3, 1.8) * campaign.lease_s
    return _frozen_for(campaign, psutil.Process(worker.process.pid), seconds)


def kill_api(campaign: "Campaign") -> bool:
    """Under load: all that was not committed did not happen."""
    with _crowd(campaign):
        campaign.world.kill_api()
        time.sleep(campaign.random.choice((0.0, 0.5, 1.5)))
        campaign.start_api()
    return True


def restart_api(campaign: "Campaign") -> bool:
    """Told to stop, under load: it ends what it has begun, and soon."""
    api = campaign.world.api
    assert api is not None
    with _crowd(campaign):
        api.terminate()
        api.wait(PATIENCE_S)
        campaign.start_api()
    return True


def freeze_api(campaign: "Campaign") -> bool:
    """Requests that time out and are carried out all the same."""
    api = campaign.world.api
    assert api is not None
    return _frozen_while_waiting(api.pid, campaign.random.uniform(0.2, 0.8) * campaign.lease_s)


def kill_database(campaign: "Campaign") -> bool:
    """What it had said was committed is there again."""
    assert campaign.database is not None
    postmaster = psutil.Process(campaign.database.get_pid())
    family = [postmaster, *postmaster.children()]
    kill(postmaster)
    wait_for(lambda: all(is_gone(process) for process in family), "the end of a killed database server")
    time.sleep(campaign.random.choice((0.0, 0.5, 2.0)))
    # Where nobody waits for orphans it stays a zombie, and its locks seem to be a living server's.
    for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        (campaign.database.pgdata / lock).unlink(missing_ok=True)
    campaign.database.ensure_postgres_running()
    wait_for(campaign.world.is_up, "an API that has found its database again")
    return True


def kill_redis(campaign: "Campaign", *, keep: bool) -> bool:
    """With its data, old messages come back; without, every message is lost."""
    campaign.world.redis.kill()
    if not keep:
        campaign.world.redis.forget()
    time.sleep(campaign.random.choice((0.0, 0.5)))
    campaign.world.redis.start()
    return True


def empty_redis(campaign: "Campaign") -> bool:
    """Every message is lost, and nobody gets to know it."""
    with redis_client.Redis.from_url(campaign.world.redis.url) as redis:
        redis.flushall()
    return True


def freeze_redis(campaign: "Campaign") -> bool:
    """Whoever rings waits; what was rung comes late."""
    return _frozen_while_waiting(campaign.world.redis.process.pid, campaign.random.uniform(0.1, 0.5) * campaign.lease_s)


def signalled(process: psutil.Process, number: signal.Signals) -> bool:
    """Send a signal; return whether the process was still there."""
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        process.send_signal(number)
        return True
    return False


def _frozen_for(campaign: "Campaign", process: psutil.Process, seconds: float) -> bool:
    campaign.after(seconds, partial(signalled, process, signal.SIGCONT))
    return signalled(process, signal.SIGSTOP)


def _frozen_while_waiting(pid: int, seconds: float) -> bool:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)
    return True


@contextmanager
def _crowd(campaign: "Campaign") -> Iterator[None]:
    """Readers that are there all the time. What they get is an answer or no connection, but no mistake of the server's."""
    leave = threading.Event()

    def read() -> None:
        with httpx.Client(base_url=campaign.world.http.base_url, headers=campaign.world.http.headers) as http:
            while not leave.wait(0.05):
                with suppress(httpx.TransportError):
                    answer = http.get("/api/v1/jobs")
                    assert answer.status_code in (200, 503), answer.text

    with ThreadPoolExecutor(CROWD) as pool:
        readers = [pool.submit(read) for _ in range(CROWD)]
        try:
            yield
        finally:
            leave.set()
    for reader in readers:
        reader.result()
