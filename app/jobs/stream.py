"""Live updates: one poller per process looks for changed jobs, and every listener hears of them.

Several API processes need no channel between them: each sees the other's changes in the database.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session, load_only, sessionmaker

from app.db import reading
from app.jobs import service, timeline
from app.tables import Event, Job
from app.tables.base import now

T = TypeVar("T")

log = logging.getLogger(__name__)

POLL_S = 0.5
KEEP_ALIVE_S = 15.0
"""Proxies close connections that are silent for long."""

OVERLAP = timedelta(seconds=15)
"""How far back a poll looks: a transaction's time is taken before it commits, and clocks of processes differ."""

LATE_IDS = 1000
"""Events are numbered before they commit, so a smaller number may appear after a larger one: this much smaller."""

REPLAYED = 1000
"""Most events repeated to a listener that comes back."""

BACKLOG = 2000
"""Messages a listener may be behind before it is cut off; it comes back with `Last-Event-ID`."""


@dataclass(frozen=True)
class Update:
    """One message: `job` with a JobView, or `event` with an Event, whose id is the message's."""

    kind: str
    job_id: int
    data: str
    event_id: int | None = None

    def encode(self) -> bytes:
        """Return the message in the format of server-sent events."""
        number = f"id: {self.event_id}\n" if self.event_id is not None else ""
        return f"{number}event: {self.kind}\ndata: {self.data}\n\n".encode()


class Watcher:
    """Finds what has changed since it last looked. Used by one thread at a time."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions
        self._versions: dict[int, int] = {}
        self._told: set[int] = set()
        self._newest_event = 0
        self._since = now()

    def begin(self) -> None:
        """Take what is there now as known."""
        with reading(self._sessions) as session:
            self._newest_event = session.scalar(select(func.max(Event.id))) or 0
            self._told = set(session.scalars(select(Event.id).where(Event.id > self._newest_event - LATE_IDS)))
        self.look()

    def look(self) -> list[Update]:
        """Return what has changed. When nothing has, this is one query on an index."""
        started = now()
        with reading(self._sessions) as session:
            recent = select(Job.id, Job.version).where(Job.updated_at > self._since - OVERLAP)
            versions = {row.id: row.version for row in session.execute(recent)}
            changed = [job_id for job_id, version in versions.items() if self._versions.get(job_id) != version]
            updates = [*self._events(session, changed), *jobs(session, changed)] if changed else []
        self._versions, self._since = versions, started
        return updates

    def _events(self, session: Session, changed: list[int]) -> Iterator[Update]:
        floor = self._newest_event - LATE_IDS
        rows = session.scalars(
            select(Event).where(Event.job_id.in_(changed), Event.id > floor).order_by(Event.id)
        ).all()
        for row in rows:
            if row.id not in self._told:
                yield event(row)
        self._told = {number for number in self._told if number > floor} | {row.id for row in rows}
        self._newest_event = max([self._newest_event, *self._told])


def event(row: Event) -> Update:
    """Return the message about an event."""
    return Update("event", row.job_id, timeline.view(row).model_dump_json(), row.id)


def jobs(session: Session, job_ids: Iterable[int]) -> Iterator[Update]:
    """Yield the message about each job."""
    for row in session.scalars(select(Job).options(load_only(*service.LISTED)).where(Job.id.in_(job_ids))):
        yield Update("job", row.id, service.view(row).model_dump_json())


def missed(session: Session, job_id: int | None, last_event_id: int) -> list[Update]:
    """Return the events that a listener missed while it was away, oldest first."""
    statement = select(Event).where(Event.id > last_event_id)
    if job_id is not None:
        statement = statement.where(Event.job_id == job_id)
    rows = session.scalars(statement.order_by(Event.id.desc()).limit(REPLAYED)).all()
    return [event(row) for row in reversed(rows)]


@dataclass(eq=False)
class Listener:
    """Somebody who listens to one job, or to all."""

    job_id: int | None
    waiting: asyncio.Queue[Update | None] = field(default_factory=lambda: asyncio.Queue(BACKLOG))

    def hear(self, update: Update) -> bool:
        """Take a message; return False when the listener is too far behind."""
        if self.job_id not in (None, update.job_id):
            return True
        try:
            self.waiting.put_nowait(update)
        except asyncio.QueueFull:
            return False
        return True


class Hub:
    """The poller of this process and its listeners. Lives on the event loop; only `Watcher` leaves it, for a thread."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._watcher = Watcher(sessions)
        self._listeners: set[Listener] = set()
        self._wanted = asyncio.Event()
        self._following = asyncio.Event()
        """Set while what happens is told: from the moment at which what was there before is known."""
        self._closed = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="event stream")

    async def _run(self) -> None:
        while not self._closed.is_set():
            if not self._listeners:
                self._wanted.clear()
                self._following.clear()
                await self._wanted.wait()
                await self._ask(self._watcher.begin)
                self._following.set()
            for update in await self._ask(self._watcher.look) or ():
                self._tell(update)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), POLL_S)

    async def _ask(self, question: Callable[[], T]) -> T | None:
        try:
            return await asyncio.to_thread(question)
        except Exception:  # nothing may end the poller: every stream would fall silent
            log.exception("the event stream could not look at the jobs; it will try again")
            return None

    def _tell(self, update: Update) -> None:
        for listener in [one for one in self._listeners if not one.hear(update)]:
            self._dismiss(listener)

    def _dismiss(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        while not listener.waiting.empty():
            listener.waiting.get_nowait()
        listener.waiting.put_nowait(None)

    async def listen(self, job_id: int | None) -> Listener:
        """Add a listener who hears all that happens after this returns; pair with `forget`."""
        listener = Listener(job_id)
        if self._closed.is_set():
            listener.waiting.put_nowait(None)
        else:
            self._listeners.add(listener)
            self._wanted.set()
            try:
                await self._following.wait()
            except BaseException:
                self.forget(listener)
                raise
        return listener

    def forget(self, listener: Listener) -> None:
        """Remove a listener."""
        self._listeners.discard(listener)

    def close(self) -> None:
        """End every stream, so that the server can stop: it waits for open connections before anything else."""
        self._closed.set()
        self._wanted.set()
        self._following.set()
        for listener in list(self._listeners):
            self._dismiss(listener)

    async def closed(self) -> None:
        """Close, and wait until the poller has stopped to use the database."""
        self.close()
        await self._task


async def messages(hub: Hub, listener: Listener, first: list[Update]) -> AsyncIterator[bytes]:
    """Yield the bytes of a stream: what was missed, then what happens, until either side ends it."""
    told = {update.event_id for update in first if update.event_id is not None}
    try:
        yield b"retry: 2000\n\n" + b"".join(update.encode() for update in first)
        while True:
            try:
                update = await asyncio.wait_for(listener.waiting.get(), KEEP_ALIVE_S)
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if update is None:
                return
            if update.event_id is None or update.event_id not in told:
                yield update.encode()
    finally:
        hub.forget(listener)
