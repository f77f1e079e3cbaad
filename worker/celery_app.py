"""Celery as this worker uses it: a doorbell on Redis, answered by a pool of threads."""

import os
import signal
import threading
import warnings
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from celery import Celery, signals
from celery.exceptions import SecurityWarning
from celery.worker import state

from worker import errands, tasks
from worker.runtime import Runtime

ERRANDS_S = 10.0
"""Seconds that the errand thread has to end its process and remove its directory."""


def make_app(runtime: Runtime) -> Celery:
    """Return the Celery application of a worker.

    The database row is the truth and the message only a doorbell: early ack, no result backend, and no prefetch, so that
    a job never waits behind a running one while another worker idles.
    """
    app = Celery("cairn", broker=runtime.settings.broker_url, set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"socket_keepalive": True},
        task_ignore_result=True,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_enable_prefetch_count_reduction=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    tasks.register(app, runtime)
    return app


def run(runtime: Runtime) -> int:
    """Answer doorbells until told to stop; return the exit status."""
    # Handlers are held weakly by Celery: these live as long as this call.
    # Celery warns root about pickled messages; ours are JSON, and in a container root is the usual user.
    warnings.filterwarnings("ignore", category=SecurityWarning, module="celery.platforms")
    keep_our_logging, take_over = _keep_our_logging, _taking_over(runtime)
    signals.setup_logging.connect(keep_our_logging)
    signals.worker_ready.connect(take_over)
    app = make_app(runtime)
    errand_thread = errands.listen(runtime, app)
    worker = app.Worker(
        pool="threads",
        concurrency=runtime.slots.count,
        queues=runtime.queues,
        hostname=f"cairn-{runtime.worker_id}",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    if runtime.shutdown.requested.is_set():
        errand_thread.join(ERRANDS_S)
    return int(worker.exitcode or 0)


def _keep_our_logging(**_: Any) -> None:
    """Being connected is enough: Celery then leaves logging alone."""


def _taking_over(runtime: Runtime) -> Any:
    def take_over(sender: Any, **_: Any) -> None:
        """Once Celery consumes: our signal handlers, for Celery's would wait for tasks without telling trainers."""

        def on_signal(number: int, _: FrameType | None) -> None:
            runtime.shutdown.request()
            if number == signal.SIGQUIT:
                runtime.shutdown.request()
            # Celery's warm shutdown: it stops consuming and waits for the pool, whose tasks now end within a bound.
            state.should_stop = 0

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, on_signal)
        runtime.on_drain = lambda drain: _drain(sender, runtime, drain)
        if runtime.draining:
            runtime.on_drain(True)
        runtime.on_free_slot = _waker(sender)
        # A job of several slots has one thread: without this Celery would take messages for the other ones.
        runtime.slots.on_change = partial(setattr, sender.controller, "max_concurrency")

    return take_over


def _waker(consumer: Any) -> Callable[[], None]:
    """Return a function that makes Celery look for messages at once; by itself it looks every second when all was busy."""
    woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    consumer.hub.add_reader(woken, os.read, woken, 4096)

    def wake() -> None:
        # A little later: Celery counts the slot as free only when the task's function has returned.
        threading.Timer(0.02, os.write, (wakes, b".")).start()

    return wake


def _drain(consumer: Any, runtime: Runtime, drain: bool) -> None:
    """Stop or resume consuming, in Celery's own thread."""
    change = consumer.cancel_task_queue if drain else consumer.add_task_queue
    for queue in runtime.queues:
        consumer.call_soon(change, queue)
