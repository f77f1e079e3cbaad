"""The doorbell: Celery messages that leave after the commit, vanish on rollback, and never hold a request up."""

import logging
import time

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis, RedisError
from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker

from app.wire.doorbell import TASK_NAME, queue_name

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
REST_AFTER_FAILURE_S = 5.0
"""After a failure nothing is sent for this long: with the broker down, one request in five seconds waits, not all.
Rings that are not sent are not lost: the reconciler rings every job that still waits when a worker is free.
"""

_PENDING = "cairn.rings"


class Doorbell:
    """Rings for (job, attempt) on the queue of an engine."""

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

    def ring(self, engine: str, job_id: int, attempt: int) -> bool:
        """Publish one message; return whether the broker took it. Never raises for a broker that is away."""
        if time.monotonic() < self._silent_until:
            return False
        try:
            self._celery.send_task(TASK_NAME, (job_id, attempt), queue=queue_name(engine), retry=False)
        except (OperationalError, OSError) as error:
            self._silent_until = time.monotonic() + REST_AFTER_FAILURE_S
            log.warning("the broker is away, job %s will be rung later: %s", job_id, error)
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


def celery_url(redis_url: str) -> str:
    """Return Celery's spelling of a redis-py URL: a unix socket is `redis+socket://` there."""
    return "redis+socket://" + redis_url.removeprefix("unix://") if redis_url.startswith("unix://") else redis_url


def ring_after_commit(session: Session, engine: str, job_id: int, attempt: int) -> None:
    """Ring once this session has committed; a rollback drops it."""
    session.info.setdefault(_PENDING, []).append((engine, job_id, attempt))


def connect(sessions: sessionmaker[Session], doorbell: Doorbell) -> None:
    """Make the sessions of this factory send their rings through `doorbell`. Savepoints neither send nor drop."""

    def send(session: Session) -> None:
        if session.in_nested_transaction():
            return
        for ring in session.info.pop(_PENDING, ()):
            doorbell.ring(*ring)

    def drop(session: Session, ended: SessionTransaction) -> None:
        if not ended.nested:
            session.info.pop(_PENDING, None)

    event.listen(sessions, "after_commit", send)
    event.listen(sessions, "after_soft_rollback", drop)
