"""Every kind of fault that a campaign does. Each function returns whether there was anything to harm."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tests.faults import confusing, killing

if TYPE_CHECKING:
    from tests.faults.campaign import Campaign

KINDS: dict[str, Callable[["Campaign"], bool]] = {
    "trainer killed": killing.kill_trainer,
    "trainer frozen": killing.freeze_trainer,
    "forkserver killed": killing.kill_forkserver,
    "worker killed (supervisor, Celery)": killing.kill_worker,
    "worker told to stop": killing.stop_worker,
    "worker frozen": killing.freeze_worker,
    "worker's clock wrong": confusing.set_worker_clock,
    "worker's disk full": partial(confusing.fill_disk, whose="worker"),
    "API killed under load": killing.kill_api,
    "API restarted under load": killing.restart_api,
    "API frozen": killing.freeze_api,
    "API's clock leaps": confusing.set_api_clock,
    "server's disk full": partial(confusing.fill_disk, whose="server"),
    "database server killed": killing.kill_database,
    "broker killed, its data kept": partial(killing.kill_redis, keep=True),
    "broker killed, its data gone": partial(killing.kill_redis, keep=False),
    "broker emptied": killing.empty_redis,
    "broker frozen": killing.freeze_redis,
    "network cut": confusing.cut_network,
    "doorbells doubled and out of order": confusing.ring_twice,
    "doorbells lost, and late": confusing.ring_late,
    "one job claimed by several at once": confusing.claim_at_once,
    "newest checkpoint corrupt": partial(confusing.damage_checkpoint, how="corrupt"),
    "newest checkpoint truncated": partial(confusing.damage_checkpoint, how="truncated"),
    "newest checkpoint missing": partial(confusing.damage_checkpoint, how="missing"),
}
