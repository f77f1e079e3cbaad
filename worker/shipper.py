"""Ships what a trainer says while it trains: metrics, log, events, environment. Each piece once, in order."""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.wire.worker import AttemptEvent
from worker import client
from worker.fate import Fate
from worker.messages import SHIP_S, Message, Pace, gather
from worker.rundir import RunDir

log = logging.getLogger(__name__)

LOG_BYTES = 1 << 18
EVENTS_AT_ONCE = 200
_WRONG_CONTENT = frozenset({400, 413, 415, 422})


class Delivery:
    """Calls `work` again and again in its own thread, patient with an API that is away, until all is delivered."""

    def __init__(
        self, name: str, work: Callable[[], bool], fate: Fate, pause_s: Callable[[], float] = lambda: SHIP_S
    ) -> None:
        """`work` returns whether more waits already; `pause_s`, after it, how long to wait when none does."""
        self._name = name
        self._work = work
        self._pause_s = pause_s
        self._fate = fate
        self._finish = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin, and return at once."""
        self._thread.start()

    def finish(self) -> None:
        """Say that nothing new will come: deliver what is left and end."""
        self._finish.set()

    def wait(self, timeout_s: float) -> bool:
        """Return whether everything is delivered (or given up), after at most `timeout_s`."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        pause_s, told = SHIP_S, ""
        while not self._fate.abandon.is_set():
            finishing = self._finish.is_set()
            try:
                more = self._work()
            except client.AttemptSuperseded as error:
                self._fate.supersede(str(error))
                return
            except client.Unreachable as error:
                pause_s = min(5.0, pause_s * 1.5)
                if str(error) != told:
                    told = str(error)
                    log.warning("%s waits: %s", self._name, told)
                self._fate.abandon.wait(pause_s)
                continue
            except Exception as error:
                log.exception("%s failed", self._name)
                self._fate.broken = f"{type(error).__name__}: {error}"
                return
            pause_s, told = SHIP_S, ""
            if finishing and not more:
                return
            if not more:
                self._finish.wait(self._pause_s())


class Timeline:
    """Events of trainer and supervisor on their way to the job's timeline, numbered in the order they were put."""

    def __init__(self, first_seq: int) -> None:
        self._next_seq = first_seq
        self._waiting: deque[AttemptEvent] = deque()
        self._lock = threading.Lock()

    def put(self, kind: str, message: str, data: dict[str, Any] | None = None) -> None:
        """Add an event."""
        with self._lock:
            self._waiting.append(AttemptEvent(seq=self._next_seq, kind=kind, message=message, data=data or {}))
            self._next_seq += 1

    def first(self) -> list[AttemptEvent]:
        """Return the oldest events that wait."""
        with self._lock:
            return [event for event, _ in zip(self._waiting, range(EVENTS_AT_ONCE), strict=False)]

    def delivered(self, count: int) -> None:
        """Forget the oldest `count` events."""
        with self._lock:
            for _ in range(count):
                self._waiting.popleft()


class Shipper:
    """One pass over a run directory at a time. What the server refuses for good is set aside and said aloud."""

    def __init__(self, api: client.Api, run: RunDir, timeline: Timeline, label: str) -> None:
        self._api = api
        self._run = run
        self._timeline = timeline
        self._label = label
        self._log_offset = 0
        self._events_offset = 0
        self._environment_sent = False
        self._message: Message | None = None
        self.pace = Pace()

    def ship(self) -> bool:
        """Deliver what is there; return whether more waits already."""
        more = self._ship_metrics()
        more |= self._ship_log()
        more |= self._read_events()
        more |= self._ship_events()
        self._ship_environment()
        return more

    def _ship_metrics(self) -> bool:
        """Send what is spooled, as many batches in one as belong together. What was sent once is sent again unchanged."""
        is_repeated = self._message is not None
        if self._message is None:
            self._message = gather(sorted(path for path in self._run.metrics.glob("*.arrow") if path.stem.isdigit()))
        if self._message is None:
            return False
        began = time.monotonic()
        try:
            client.metrics(self._api, self._message.seq, self._message.data)
        except client.Refused as error:
            if error.status in _WRONG_CONTENT and len(self._message.files) > 1:
                self._message = gather(
                    self._message.files[:1]
                )  # the others are none the worse for the one that is wrong
                return True
            self._refused(f"Metrics batch {self._message.files[0].name}", error)
        self.pace.note(time.monotonic() - began)
        for path in self._message.files:
            path.unlink()
        more = self._message.more or is_repeated  # in that case nobody has looked since
        self._message = None
        return more

    def _ship_log(self) -> bool:
        data = _read_from(self._run.log, self._log_offset, LOG_BYTES)
        if not data:
            return False
        try:
            answer = client.logs(self._api, self._log_offset, data)
        except client.Refused as error:
            self._refused(f"{len(data)} bytes of the log", error)
            self._log_offset += len(data)
            return False
        moved, self._log_offset = answer.size > self._log_offset, answer.size
        return moved and self._run.log.stat().st_size > self._log_offset

    def _read_events(self) -> bool:
        """Put the trainer's new events on the timeline, and return whether there may be more of them in the file."""
        *lines, rest = self._new_lines()
        for line in lines:
            self._events_offset += len(line) + 1
            try:
                event = json.loads(line)
                self._timeline.put(str(event["kind"]), str(event["message"]), event.get("data"))
            except (ValueError, KeyError, TypeError) as error:
                log.warning("%s not an event: %r (%s)", self._label, line[:200], error)
        return bool(lines and rest)

    def _new_lines(self) -> list[bytes]:
        """Return new lines of the events, about so many bytes at a time; the last one's end is still to be read, or written."""
        limit = LOG_BYTES
        while b"\n" not in (data := _read_from(self._run.events, self._events_offset, limit)) and len(data) == limit:
            limit *= 2  # one event is longer than that
        return data.split(b"\n")

    def _ship_events(self) -> bool:
        events = self._timeline.first()
        if not events:
            return False
        try:
            client.events(self._api, events)
        except client.Refused as error:
            if error.status not in _WRONG_CONTENT:
                raise client.Unreachable(str(error)) from error
            log.error("%s %d events refused: %s", self._label, len(events), error)  # noqa: TRY400
        self._timeline.delivered(len(events))
        return len(events) == EVENTS_AT_ONCE

    def _ship_environment(self) -> None:
        if self._environment_sent or not self._run.environment.exists():
            return
        try:
            client.environment(self._api, self._run.environment.read_bytes())
        except client.Refused as error:
            self._refused("The environment", error)
        self._environment_sent = True

    def _refused(self, what: str, error: client.Refused) -> None:
        """Give up what the server finds wrong in itself; anything else may be a proxy's doing and pass."""
        if error.status not in _WRONG_CONTENT:
            raise client.Unreachable(f"{what}: {error}") from error
        log.error("%s %s refused: %s", self._label, what, error)
        self._timeline.put("warning", f"{what} was refused by the server and is lost: {error}", {"code": error.code})


def _read_from(path: Path, offset: int, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(limit)
    except FileNotFoundError:
        return b""
