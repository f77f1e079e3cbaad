"""Errands beside the trainings: a thread that answers their rings, and sees each through in a process of its own."""

import logging
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.message import Message
from kombu.messaging import Consumer

from app.engines import registry
from app.wire.doorbell import ERRAND_TASK_NAME, errand_queue_name
from app.wire.worker import ErrandClaim, ErrandGrant, ErrandResult
from worker import client, errand, workdir
from worker.cache import CorruptBlob
from worker.children import ForkserverDown, TrainerProcess
from worker.client import Hurry
from worker.errand import Order
from worker.rundir import write_json
from worker.runtime import Runtime

log = logging.getLogger(__name__)

ENTRY = "worker.errand:main"
LOOK_S = 0.5
"""Seconds between looks whether the worker drains or shuts down."""
DELIVERY_SHARE = 0.1
"""Part of the lease that is kept for delivering the result."""
_PAUSES_S = (0.5, 10.0)


@dataclass(frozen=True)
class Until:
    """Set, like an event, when the worker shuts down or a time (of `time.monotonic`) has come."""

    stop: Hurry
    at: float

    def is_set(self) -> bool:
        """Return whether it is over."""
        return self.stop.is_set() or time.monotonic() >= self.at

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether it is over, after at most `timeout` seconds."""
        left = max(0.0, self.at - time.monotonic())
        self.stop.wait(left if timeout is None else min(timeout, left))
        return self.is_set()


def listen(runtime: Runtime, app: Celery) -> threading.Thread:
    """Answer rings from now on, in a thread that ends with the worker. One errand at a time, whatever the trainings do."""
    listener = _Listener(runtime, app.connection_for_read)
    thread = threading.Thread(target=listener.run, name="errands", daemon=True)
    thread.start()
    return thread


class _Listener:
    def __init__(self, runtime: Runtime, connect: Callable[[], Connection]) -> None:
        self._runtime = runtime
        self._connect = connect
        self._stop = runtime.shutdown.requested
        names = [errand_queue_name(engine.name) for engine in runtime.engines]
        self._queues = [Queue(name, exchange=name, routing_key=name) for name in names]

    def run(self) -> None:
        """Listen until the worker shuts down, connecting anew for ever."""
        pause_s, longest_s = _PAUSES_S
        while not self._stop.is_set():
            connected = time.monotonic()
            try:
                with self._connect() as connection:
                    self._serve(connection)
            except Exception as error:  # noqa: BLE001 - kombu lets through what redis and sockets raise
                pause_s = _PAUSES_S[0] if time.monotonic() - connected > 60 else min(longest_s, pause_s * 2)
                log.warning("the broker of errands is away, asking again in %.1f s: %s", pause_s, error)
                self._stop.wait(pause_s)

    def _serve(self, connection: Connection) -> None:
        while not self._stop.is_set():
            if self._runtime.draining:
                self._stop.wait(LOOK_S)
                continue
            # Acknowledged at once: the row is the truth, and the server rings again for what nobody claimed.
            with connection.channel() as channel, self._consumer(channel):
                while not self._stop.is_set() and not self._runtime.draining:
                    try:
                        connection.drain_events(timeout=LOOK_S)
                    except TimeoutError:
                        continue

    def _consumer(self, channel: Any) -> Consumer:
        return Consumer(channel, self._queues, on_message=self._heard, accept=["json"], no_ack=True)

    def _heard(self, message: Message) -> None:
        try:
            errand_id = rung_for(message)
        except (ValueError, TypeError, LookupError) as error:
            log.error("not a ring for an errand, ignored: %s", error)  # noqa: TRY400 - the message says it all
            return
        try:
            answer(self._runtime, errand_id)
        except Exception:  # one errand must not end all others
            log.exception("errand=%s failed in the worker itself", errand_id)


def rung_for(message: Message) -> int:
    """Return the errand that a Celery message (protocol 2) names.

    Raises:
        ValueError: It is another message; so are TypeError and LookupError.
    """
    if message.headers.get("task") != ERRAND_TASK_NAME:
        raise ValueError(f"a message of the task {message.headers.get('task')!r}")
    positional, *_ = message.decode()
    [errand_id] = positional
    return int(errand_id)


def answer(runtime: Runtime, errand_id: int) -> None:
    """Claim an errand and see it through; do nothing when it is not to be had."""
    claimed = time.monotonic()
    grant = _claim(runtime, errand_id)
    if grant is None:
        return
    log.info("errand=%s claimed: %s %s", errand_id, grant.kind, grant.file_name or "")
    until = Until(runtime.shutdown.requested, claimed + grant.lease_s)
    working = Until(until.stop, until.at - grant.lease_s * DELIVERY_SHARE)
    try:
        result = _carry_out(runtime, grant, working)
        if result is not None:
            _deliver(runtime.api.for_errand(grant, until), grant, result, until)
    except client.ErrandSuperseded as error:
        log.info("errand=%s superseded, dropped: %s", errand_id, error)


def _claim(runtime: Runtime, errand_id: int) -> ErrandGrant | None:
    message = ErrandClaim(worker_id=runtime.worker_id)
    try:
        try:
            return client.claim_errand(runtime.api, errand_id, message)
        except client.UnknownWorker:
            runtime.introduce()
            return client.claim_errand(runtime.api, errand_id, message)
    except client.NotClaimable as error:
        log.debug("errand=%s not claimable: %s", errand_id, error)
    except client.Unreachable as error:
        # It still waits; the server rings again.
        log.warning("errand=%s not claimed, the API does not answer: %s", errand_id, error)
    except client.Rejection as error:
        log.error("errand=%s not claimed: %s", errand_id, error)  # noqa: TRY400
    return None


def _carry_out(runtime: Runtime, grant: ErrandGrant, until: Until) -> ErrandResult | None:
    """Return what came of an errand; None when it could not be done here: its lease runs out, and it is rung for again."""
    engine = registry.get(grant.engine)
    if engine is None:
        log.error("errand=%s is for the engine %r, which is not here", grant.errand_id, grant.engine)
        return None
    try:
        with ExitStack() as in_use:
            file = _fetch(runtime, grant, until, in_use) if grant.blob_sha256 is not None else None
            directory = in_use.enter_context(workdir.for_errand(runtime.settings.work_path, runtime.worker_id))
            # A second process is not promised all the processor time of its wall clock, so that much is enough.
            order = Order(
                module=engine.errands,
                grant=grant.model_copy(update={"token": ""}),
                file=file,
                memory_bytes=runtime.settings.errand_memory_bytes + 2 * (grant.size or 0),
                cpu_s=int(grant.lease_s) + 1,
            )
            return _run(runtime, order, directory, until)
    except (client.Refused, CorruptBlob) as error:
        return errand.refusal("file-missing", f"The file could not be fetched: {error}", "Upload it again.")
    except (client.Unreachable, ForkserverDown, OSError) as error:
        log.warning("errand=%s not done: %s", grant.errand_id, error)
        return None


def _fetch(runtime: Runtime, grant: ErrandGrant, until: Until, in_use: ExitStack) -> Path:
    """Return the path of an errand's file, which stays in the cache while `in_use` is open."""
    assert grant.blob_sha256 is not None, "asked by the caller"
    api = runtime.api.for_errand(grant, until)
    pause_s, longest_s = _PAUSES_S
    while True:
        try:
            return in_use.enter_context(runtime.cache.blob(api, grant.blob_sha256))
        except client.Unreachable as error:
            log.warning("errand=%s fetching is interrupted, goes on in %.1f s: %s", grant.errand_id, pause_s, error)
            if until.wait(pause_s):
                raise
            pause_s = min(longest_s, pause_s * 2)


def _run(runtime: Runtime, order: Order, directory: Path, until: Until) -> ErrandResult | None:
    """Run an errand's process to its end; None when the worker shuts down."""
    write_json(directory / errand.ORDER, order, durable=False)
    started = time.monotonic()
    process = runtime.errand_forkserver().spawn(ENTRY, directory, {}, until)
    try:
        while not process.exited.is_set() and not until.is_set():
            process.wait(min(LOOK_S, max(0.0, until.at - time.monotonic())))
    finally:
        in_time = process.exited.is_set()
        if not in_time:
            process.kill()
            process.wait(LOOK_S * 10)
    took = time.monotonic() - started
    log.info("errand=%s process gone after %.2f s, exit code %s", order.grant.errand_id, took, process.exit_code)
    if not in_time:
        return None if runtime.shutdown.requested.is_set() else errand.took_too_long(order, took)
    return _outcome(order, process, directory, took)


def _outcome(order: Order, process: TrainerProcess, directory: Path, took: float) -> ErrandResult | None:
    path = directory / errand.RESULT
    if process.exit_code == 0 and path.exists():
        return ErrandResult.model_validate_json(path.read_bytes())
    said = _last_words(directory / "log.txt")
    log.warning("errand=%s ended without a result: %s", order.grant.errand_id, said)
    if process.exit_code is None:  # its forkserver died, which is no fault of the file's
        return None
    if process.exit_code == -signal.SIGXCPU:
        return errand.took_too_long(order, took)
    if process.exit_code == -signal.SIGKILL:  # nobody here killed it: the kernel did, for memory
        return errand.out_of_memory(order)
    if process.exit_code > 0 and "MemoryError" in said:
        return errand.out_of_memory(order)
    number = -process.exit_code
    return errand.crashed(order, f"signal {number}" if number > 0 else f"exit code {process.exit_code}")


def _last_words(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 2000))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""


def _deliver(api: client.Api, grant: ErrandGrant, result: ErrandResult, until: Until) -> None:
    """Deliver a result until the server has heard it, or does not want to, or the lease is over."""
    while True:
        try:
            client.errand_result(api, result)
        except client.Unreachable as error:
            if until.wait(_PAUSES_S[0]):
                log.warning("errand=%s done, untold: %s", grant.errand_id, error)
                return
        except client.Refused as error:
            log.error("errand=%s result refused: %s", grant.errand_id, error)  # noqa: TRY400
            return
        else:
            word = f"refused ({result.problem.message})" if result.problem else "done"
            log.info("errand=%s %s", grant.errand_id, word)
            return
