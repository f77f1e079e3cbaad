"""What lives as long as the worker process: connections, cache, forkserver, slots; and its word to the server."""

import importlib.metadata
import logging
import os
import platform
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.engines import registry
from app.engines.base import Engine
from app.wire.doorbell import queue_name
from app.wire.submission import MAX_GPUS
from app.wire.worker import Bye, Claim, ClaimRequest, Hello, Presence, Reserve
from worker import client
from worker.cache import Cache
from worker.children import Forkserver
from worker.fate import Shutdown
from worker.gpus import find_devices
from worker.settings import WorkerSettings
from worker.slots import Slots

log = logging.getLogger(__name__)

TRAINER = "worker.trainer:main"
"""What the forkserver runs in a fork, with the run directory as its argument."""

_SENT_AWAY = frozenset({"unauthorized", "forbidden", "protocol-mismatch"})
"""What a server says that does not want this worker."""


class Runtime:
    """A worker process. Made once; every task thread uses it."""

    def __init__(self, settings: WorkerSettings, entry: str = TRAINER) -> None:
        self.settings = settings
        self.entry = entry
        self.worker_id = uuid.uuid4().hex
        self.shutdown = Shutdown()
        self.engines = served_engines(settings)
        self.devices = find_devices()
        self.slots = Slots(self.devices, settings.slots or len(self.devices) or 1)
        self.threads = settings.threads_for(self.slots.count)
        self.api = client.connect(settings.api_url, settings.token)
        self.cache = Cache(settings.cache_path, settings.cache_bytes)
        self.forkserver = Forkserver([preload_module(engine) for engine in self.engines], self.threads)
        self._cpu_forkserver: Forkserver | None = None
        self.on_drain: Callable[[bool], None] = lambda _: None
        """Called from the presence thread when the server wants this worker to take no more work, or to take it again."""
        self.on_free_slot: Callable[[], None] = lambda: None
        """Called by a task thread that is about to end."""
        self._attempts: set[int] = set()
        self._silent = False
        self._presence_s = settings.presence_s
        self.draining = False

    def introduce(self) -> None:
        """Say hello until the server answers.

        Raises:
            ProtocolMismatch: This worker must not talk to this server.
            Rejection: The server does not want this worker, say because its token is wrong.
        """
        pause_s = 0.2
        while not self.shutdown.requested.is_set():
            try:
                welcome = client.hello(self.api, self._hello())
            except client.Unreachable as error:
                log.warning("the API at %s does not answer, asking again: %s", self.settings.api_url, error)
                self.shutdown.requested.wait(pause_s)
                pause_s = min(10.0, pause_s * 2)
            else:
                # Silent for a whole lease, a worker counts as gone.
                self._presence_s = min(self.settings.presence_s, welcome.lease_s / 3)
                log.info("known to the API at %s as %s, %s", self.settings.api_url, self.settings.name, self.worker_id)
                return

    @property
    def queues(self) -> list[str]:
        """Return the queues of the jobs that this worker can run: of its engines, and no larger than it is."""
        sizes = range(1, min(self.slots.largest, MAX_GPUS) + 1)
        return [queue_name(engine.name, size) for engine in self.engines for size in sizes]

    def claim(self, job_id: int, attempt: int, slots: int) -> Claim | None:
        """Answer the doorbell; None when there is nothing to do, which is no error: the database decides."""
        request = ClaimRequest(worker_id=self.worker_id, job_id=job_id, attempt=attempt, slots=slots)
        try:
            try:
                return client.claim(self.api, request)
            except client.UnknownWorker:
                self.introduce()
                return client.claim(self.api, request)
        except client.NotClaimable as error:
            log.debug("job=%s attempt=%s not claimable: %s", job_id, attempt, error)
        except client.Unreachable as error:
            # The job stays queued; the server rings again.
            log.warning("job=%s attempt=%s not claimed, the API does not answer: %s", job_id, attempt, error)
        except client.Rejection as error:
            log.error("job=%s attempt=%s not claimed: %s", job_id, attempt, error)  # noqa: TRY400
        return None

    def should_wait(self, job_id: int, attempt: int) -> bool:
        """Ask whether to go on keeping slots free for a job. Nobody knows while the API is away: then it is kept for."""
        try:
            return client.reserve(self.api, Reserve(worker_id=self.worker_id, job_id=job_id, attempt=attempt)).wait
        except client.UnknownWorker:
            self.introduce()
            return True
        except client.Unreachable:
            return True
        except client.Rejection as error:
            log.error("job=%s attempt=%s not waited for: %s", job_id, attempt, error)  # noqa: TRY400
            return False

    @contextmanager
    def supervising(self, attempt_id: int) -> Iterator[None]:
        """Count an attempt among those the presence message names."""
        self._attempts.add(attempt_id)
        try:
            yield
        finally:
            self._attempts.discard(attempt_id)

    def errand_forkserver(self) -> Forkserver:
        """Return the forkserver for errands, which run on the CPU; for the errand thread alone.

        DeePMD-kit fixes its device when it is imported, so beside GPUs it is another one, started when first needed.
        """
        if not self.devices:
            return self.forkserver
        if self._cpu_forkserver is None:
            modules = [preload_module(engine) for engine in self.engines]
            self._cpu_forkserver = Forkserver(modules, 1, {"DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": ""})
            self._cpu_forkserver.start()
        return self._cpu_forkserver

    def close(self) -> None:
        """End the forkservers and with them every trainer and errand."""
        self.forkserver.close()
        if self._cpu_forkserver is not None:
            self._cpu_forkserver.close()

    def start_presence(self) -> None:
        """Say from now on, at least three times a lease, that this worker is alive."""
        threading.Thread(target=self._be_present, name="presence", daemon=True).start()

    def say_goodbye(self) -> None:
        """Say that this worker has stopped. Unheard, it counts as silent after a lease, which harms nobody."""
        try:
            client.bye(self.api, Bye(worker_id=self.worker_id))
        except (client.Unreachable, client.Rejection) as error:
            log.warning("the API at %s does not know that this worker has stopped: %s", self.settings.api_url, error)

    def _be_present(self) -> None:
        while True:
            try:
                self._say_present()
            except client.Rejection as error:
                if error.code in _SENT_AWAY:
                    log.critical("the API at %s sends this worker away: %s", self.settings.api_url, error)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                self._note_silence(error)  # a proxy's page: nobody of ours has said anything
            if self.shutdown.requested.wait(self._presence_s):
                return

    def _say_present(self) -> None:
        message = Presence(
            worker_id=self.worker_id,
            busy_slots=self.slots.busy,
            attempts=sorted(self._attempts),
            gpus=self.slots.usage(),
        )
        try:
            answer = client.presence(self.api, message)
        except client.UnknownWorker:
            self.introduce()
        except client.Unreachable as error:
            self._note_silence(error)
        else:
            self._silent = False
            if answer.drain != self.draining:
                self.draining = answer.drain
                log.info("draining: no more work is taken" if answer.drain else "taking work again")
                self.on_drain(answer.drain)

    def _note_silence(self, error: Exception) -> None:
        if not self._silent:
            log.warning("the API at %s does not answer: %s", self.settings.api_url, error)
        self._silent = True

    def _hello(self) -> Hello:
        return Hello(
            worker_id=self.worker_id,
            name=self.settings.name,
            host=socket.gethostname(),
            engines={engine.name: _version(engine.library) or "" for engine in self.engines},
            slots=self.slots.count,
            gpus=[device.gpu for device in self.devices],
            versions=_versions(),
        )


def served_engines(settings: WorkerSettings) -> list[Engine]:
    """Return the engines this worker serves.

    Raises:
        ValueError: One that was asked for is unknown or its library is not installed, or there is none at all.
    """
    if settings.engines is None:
        found = [engine for engine in registry.ENGINES if _version(engine.library)]
        if not found:
            libraries = ", ".join(engine.library for engine in registry.ENGINES)
            raise ValueError(f"No engine's library is installed here. Install one of: {libraries}.")
        return found
    return [_installed(name) for name in settings.engines]


def preload_module(engine: Engine) -> str:
    """Return the module that the forkserver imports for an engine: `preload` beside its trainer."""
    package = engine.trainer.partition(":")[0].rpartition(".")[0]
    return f"{package}.preload"


def _installed(name: str) -> Engine:
    engine = registry.get(name)
    if engine is None:
        known = ", ".join(engine.name for engine in registry.ENGINES)
        raise ValueError(f"CAIRN_ENGINES names {name!r}, which is not an engine. There are: {known}.")
    if not _version(engine.library):
        raise ValueError(f"CAIRN_ENGINES names {name!r}, but its library {engine.library} is not installed here.")
    return engine


def _version(distribution: str) -> str | None:
    """Return an installed version from its metadata, without importing anything."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions() -> dict[str, str]:
    found = {name: _version(name) for name in ("cairn", "torch", "celery", "numpy")}
    return {"python": platform.python_version(), **{name: version for name, version in found.items() if version}}
