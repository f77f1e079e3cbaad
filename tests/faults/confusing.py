"""Faults without a dead process: messages, claims, files, clocks, disks. Each returns whether there was anything to harm."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from app.queue import Doorbell
from app.wire.worker import ClaimRequest, Hello
from tests.faults.killing import empty_redis, signalled
from worker import client

if TYPE_CHECKING:
    from tests.faults.campaign import Campaign

HOUR_S = 3600.0
STRANGERS = ("stranger1", "stranger2")


def cut_network(campaign: "Campaign") -> bool:
    """Between all workers and the API, in the middle of whatever is being sent; at most for two lease periods and a bit.

    With the lease that is the default, that is a minute.
    """
    campaign.link.cut()
    campaign.after(campaign.random.uniform(0.1, 2.2) * campaign.lease_s, campaign.link.mend)
    return True


def ring_twice(campaign: "Campaign") -> bool:
    """For executions past, present and to come, again and again and out of order: workers claim the same one at once."""
    rings = [(job, attempt) for job, attempt in campaign.executions_about() for _ in range(3)]
    campaign.random.shuffle(rings)
    for job, attempt in rings:
        _ring(campaign, job, attempt)
    return bool(rings)


def ring_late(campaign: "Campaign") -> bool:
    """Messages on their way are lost, and come later: for executions that are over, or not yet to be had."""
    rings = campaign.executions_about()
    empty_redis(campaign)
    for job, attempt in rings:
        delay_s = campaign.random.uniform(0.1, 2.0) * campaign.lease_s
        campaign.after(delay_s, partial(_ring, campaign, job, attempt))
    return bool(rings)


def claim_at_once(campaign: "Campaign") -> bool:
    """Two workers that nobody knows and the real ones want a new job; at most one has it. A stranger vanishes with it."""
    with ExitStack() as connections:
        try:
            strangers = [_introduced(campaign, connections, name) for name in STRANGERS]
        except client.Unreachable:
            return False
        job = campaign.submit()
        if job is None:
            return False
        with ThreadPoolExecutor(len(strangers)) as pool:
            start = threading.Barrier(len(strangers))
            granted = sum(pool.map(partial(_claimed, job=job, start=start), strangers, STRANGERS))
    if granted > 1:
        campaign.report.doubled.append(f"job {job} was given to two workers at once")
    if granted:
        campaign.note_loss_of("claimed by one that vanished", job, 1)
    return True


def damage_checkpoint(campaign: "Campaign", how: str) -> bool:
    """The newest one of a job that needs it at once."""
    for job, trainer in campaign.fleet.trainers_of_jobs():
        newest = campaign.newest_checkpoint(job)
        if newest is not None:
            _damage(campaign, newest, how)
            campaign.note_loss(f"newest checkpoint {how}, trainer killed", trainer)
            return signalled(trainer, signal.SIGKILL)
    return False


def set_api_clock(campaign: "Campaign") -> bool:
    """It leaps, forwards or backwards, by more than a lease, and some time later it is right again: a second leap."""
    seconds = campaign.random.choice((1.5 * campaign.lease_s, HOUR_S)) * campaign.random.choice((-1, 1))
    campaign.server_clock.write_text(str(seconds))
    campaign.after(campaign.random.uniform(0.2, 1.5) * campaign.lease_s, partial(campaign.server_clock.write_text, "0"))
    return True


def set_worker_clock(campaign: "Campaign") -> bool:
    """It is wrong from now on: nothing is measured by it."""
    worker = campaign.fleet.any_worker()
    campaign.fleet.clock_of(worker).write_text(str(campaign.random.uniform(-HOUR_S, HOUR_S)))
    return True


def fill_disk(campaign: "Campaign", whose: str) -> bool:
    """Nothing more can be written there; some time later there is room again."""
    disk = campaign.disks[whose]
    disk.fill()
    campaign.after(campaign.random.uniform(0.2, 1.2) * campaign.lease_s, disk.free)
    return True


def _ring(campaign: "Campaign", job: int, attempt: int) -> None:
    """Ring; a broker that is away loses it, as it may lose any message."""
    doorbell = Doorbell(campaign.world.redis.url)
    doorbell.ring("toy", job, attempt)
    doorbell.close()


def _damage(campaign: "Campaign", sha256: str, how: str) -> None:
    path = campaign.world.data_dir / "blobs" / sha256[:2] / sha256[2:]
    with suppress(FileNotFoundError):  # retention was faster
        data = path.read_bytes()
        campaign.damaged.add(sha256)
        path.unlink()
        if how != "missing":
            path.write_bytes(data[: len(data) // 2] if how == "truncated" else bytes([data[0] ^ 1]) + data[1:])


def _introduced(campaign: "Campaign", connections: ExitStack, name: str) -> client.Api:
    api = client.connect(f"http://127.0.0.1:{campaign.world.port}", campaign.world.token("worker"))
    connections.enter_context(api.http)
    client.hello(api, Hello(worker_id=name, name=name, host=name, engines={"toy": ""}, slots=1, versions={}))
    return api


def _claimed(api: client.Api, name: str, *, job: int, start: threading.Barrier) -> bool:
    start.wait()
    with suppress(client.NotClaimable, client.Unreachable):
        client.claim(api, ClaimRequest(worker_id=name, job_id=job, attempt=1))
        return True
    return False
