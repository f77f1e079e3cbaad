"""The doorbell: Celery messages that leave after the commit, vanish on rollback, and never hold a request up."""

import logging
import time
from collections.abc import Callable, Sequence

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis, RedisError
from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker

from app.tables import Job
from app.wire.doorbell import ERRAND_TASK_NAME, TASK_NAME, errand_queue_name, queue_name

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
REST_AFTER_FAILURE_S = 5.0
"""After a failure nothing is sent for this long: with the broker down, one request in five seconds waits, not all.
Rings that are not sent are not lost: the reconciler rings for all that still waits when a worker is there.
"""

_PENDING = "cairn.rings"


class Doorbell:
    """Rings for (job, attempt), or for an errand, on the queues of an engine."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._silent_until = 0.0
        self._celery = Celery(broker=celery_url(redis_url), set_as_current=False)
        self._celery.conf.update(
            task_ignore_result=True,
            broker_connection_timeout=CONNECT_TIMEOUT_S,
            broker_transport_options={
                "socket_connect_timeout": CONNECT_TIMEOUT_S,
                "socket_timeout": CONNECT_TIMEOUT_S,
                "max_retries": 0,
            },
        )

    def ring(self, engine: str, job_id: int, attempt: int, slots: int = 1) -> bool:
        """Ring for a job that takes so many slots; return whether the broker took it. Never raises for a broker that is away."""
        return self._send(TASK_NAME, (job_id, attempt, slots), queue_name(engine, slots), f"job {job_id}")

    def ring_errand(self, engine: str, errand_id: int) -> bool:
        """Ring for an errand, as `ring` does for a job."""
        return self._send(ERRAND_TASK_NAME, (errand_id,), errand_queue_name(engine), f"errand {errand_id}")

    def _send(self, task: str, arguments: tuple[int, ...], queue: str, what: str) -> bool:
        if time.monotonic() < self._silent_until:
            return False
        try:
            self._celery.send_task(task, arguments, queue=queue, retry=False)
        except (OperationalError, OSError) as error:
            self._silent_until = time.monotonic() + REST_AFTER_FAILURE_S
            log.warning("the broker is away, %s will be rung later: %s", what, error)
            return False
        return True

    def answers(self) -> bool:
        """Return whether the broker answers a ping."""
        try:
            with Redis.from_url(
                self._redis_url, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=CONNECT_TIMEOUT_S
            ) as redis:
                return bool(redis.ping())
        except RedisError:
            return False

    def close(self) -> None:
        """Close the connections to the broker."""
        self._celery.close()


def count_messages(redis_url: str, queues: Sequence[str]) -> dict[str, int]:
    """Return how many messages wait in each of these queues; nothing when the broker is away."""
    timeouts = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": CONNECT_TIMEOUT_S}
    try:
        with Redis.from_url(redis_url, **timeouts) as redis, redis.pipeline(transaction=False) as pipeline:
            for queue in queues:
                pipeline.llen(queue)
            return dict(zip(queues, pipeline.execute(), strict=True))
    except RedisError:
        return {}


def celery_url(redis_url: str) -> str:
    """Return Celery's spelling of a redis-py URL: a unix socket is `redis+socket://` there."""
    return "redis+socket://" + redis_url.removeprefix("unix://") if redis_url.startswith("unix://") else redis_url


def ring_after_commit(session: Session, job: Job, attempt: int) -> None:
    """Ring for an execution of a job once this session has committed; a rollback drops it."""
    engine, job_id, slots = job.engine, job.id, job.gpus
    _after_commit(session, lambda doorbell: doorbell.ring(engine, job_id, attempt, slots))


def ring_errand_after_commit(session: Session, engine: str, errand_id: int) -> None:
    """Ring for an errand once this session has committed; a rollback drops it."""
    _after_commit(session, lambda doorbell: doorbell.ring_errand(engine, errand_id))


def _after_commit(session: Session, ring: Callable[[Doorbell], object]) -> None:
    session.info.setdefault(_PENDING, []).append(ring)


def connect(sessions: sessionmaker[Session], doorbell: Doorbell) -> None:
    """Make the sessions of this factory send their rings through `doorbell`. Savepoints neither send nor drop."""

    def send(session: Session) -> None:
        if session.in_nested_transaction():
            return
        for ring in session.info.pop(_PENDING, ()):
            ring(doorbell)

    def drop(session: Session, ended: SessionTransaction) -> None:
        if not ended.nested:
            session.info.pop(_PENDING, None)

    event.listen(sessions, "after_commit", send)
    event.listen(sessions, "after_soft_rollback", drop)
