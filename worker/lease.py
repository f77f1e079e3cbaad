"""The lease of an attempt: a heartbeat loop in its own thread, which nothing else can hold up."""

import logging
import threading
import time
from collections.abc import Callable

from app.wire.worker import Claim, Heartbeat
from worker import client
from worker.fate import Fate

log = logging.getLogger(__name__)


class Lease:
    """Says every `heartbeat_s` that the attempt is alive and where it stands, and passes on what the server wants."""

    def __init__(self, api: client.Api, claim: Claim, fate: Fate, describe: Callable[[], Heartbeat]) -> None:
        self._api = api
        self._interval_s = claim.heartbeat_s
        # A busy server may answer late, and the lease is renewed all the same; two tries fit into a lease.
        self._timeout_s = claim.lease_s / 2
        self._label = f"job={claim.job_id} attempt={claim.attempt}"
        self._fate = fate
        self._describe = describe
        self._closed = threading.Event()
        self._silent_since: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"lease {self._label}", daemon=True)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set() and self._fate.superseded is None:
            started = time.monotonic()
            self.beat()
            self._closed.wait(max(0.0, started + self._interval_s - time.monotonic()))

    def beat(self) -> None:
        """Send one heartbeat. An API that is away is no reason to stop training: it is told later."""
        try:
            answer = client.heartbeat(self._api, self._describe(), self._timeout_s)
        except client.AttemptSuperseded as error:
            if not self._closed.is_set():
                self._fate.supersede(str(error))
        except client.Unreachable as error:
            if self._silent_since is None:
                self._silent_since = time.monotonic()
                log.warning("%s the API does not answer, training goes on: %s", self._label, error)
        except client.Rejection as error:
            log.error("%s heartbeat refused: %s", self._label, error)  # noqa: TRY400 - the message says it all
        else:
            if self._silent_since is not None:
                log.info("%s the API is back after %.1f s", self._label, time.monotonic() - self._silent_since)
                self._silent_since = None
            self._fate.heard(answer)
