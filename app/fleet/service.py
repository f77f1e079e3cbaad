"""Workers: who they are, and who is alive."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from app.errors import Conflict, NotFound
from app.settings import Settings
from app.tables import Attempt, Job, Worker
from app.tables.base import now
from app.wire.system import WorkerView
from app.wire.worker import PROTOCOL_VERSION, Hello, Presence, Welcome

STOPPED_SHOWN = timedelta(hours=1)
SILENT_SHOWN = timedelta(days=7)
"""For how long a worker is still listed that has stopped, or that nobody knows what became of."""


def introduce(session: Session, hello: Hello, settings: Settings) -> Welcome:
    """Note a worker process and tell it how often to speak.

    Raises:
        Conflict: `protocol-mismatch`: it is of another version and could misunderstand.
    """
    if hello.protocol != PROTOCOL_VERSION:
        older = "worker" if hello.protocol < PROTOCOL_VERSION else "server"
        raise Conflict(
            f"{hello.name} speaks protocol {hello.protocol}, this server {PROTOCOL_VERSION}",
            code="protocol-mismatch",
            hint=f"Upgrade the {older}.",
        )
    worker = session.get(Worker, hello.worker_id) or Worker(id=hello.worker_id, busy_slots=0)
    worker.name, worker.host, worker.slots = hello.name, hello.host, hello.slots
    worker.protocol, worker.engines, worker.versions = hello.protocol, hello.engines, hello.versions
    worker.gpus = [gpu.model_dump() for gpu in hello.gpus]
    worker.last_seen_at, worker.stopped_at = now(), None
    session.add(worker)
    session.flush()
    return Welcome(heartbeat_s=settings.heartbeat_s, lease_s=settings.lease_s)


def get(session: Session, worker_id: str) -> Worker:
    """Return a worker that has introduced itself to this version of the server.

    Raises:
        Conflict: `unknown-worker`: it should say hello first.
    """
    worker = session.get(Worker, worker_id)
    if worker is None or worker.protocol != PROTOCOL_VERSION:
        raise Conflict(f"no worker {worker_id} has introduced itself", code="unknown-worker", hint="Say hello first.")
    return worker


def ready(session: Session, worker_id: str) -> Worker:
    """Return a worker that may take work.

    Raises:
        Conflict: `unknown-worker`, as `get`; `not-claimable`: it drains, and had not heard of it when it asked.
    """
    worker = get(session, worker_id)
    if worker.drain:
        message = f"{worker.name} is draining: it takes no more work"
        raise Conflict(message, code="not-claimable", hint="Forget this message.")
    return worker


def note_presence(session: Session, presence: Presence) -> Worker:
    """Note that a worker is alive, and how busy."""
    worker = get(session, presence.worker_id)
    worker.busy_slots, worker.last_seen_at = presence.busy_slots, now()
    if presence.gpus:
        worker.gpus = presence.gpus
    session.flush()
    return worker


def note_stop(session: Session, worker_id: str) -> None:
    """Note that a worker has stopped in good order; nothing happens when it is not known."""
    stopped = {"stopped_at": now(), "busy_slots": 0}
    session.execute(update(Worker).where(Worker.id == worker_id).values(stopped))


def set_drain(session: Session, worker_id: str, drain: bool, settings: Settings) -> WorkerView:
    """Let a worker take no more work, or take work again; it learns of it with its next sign of life.

    Raises:
        NotFound: no such worker has introduced itself.
    """
    worker = session.get(Worker, worker_id)
    if worker is None:
        raise NotFound(f"there is no worker {worker_id}", hint="`cairn workers` lists them.")
    worker.drain = drain
    session.flush()
    return _view(worker, _running(session, worker_id)[worker_id], settings)


def is_alive(worker: Worker, settings: Settings) -> bool:
    """Return whether a worker was heard of within a lease, and has not said that it stops."""
    return worker.stopped_at is None and worker.last_seen_at > now() - timedelta(seconds=settings.lease_s)


def listed(session: Session, settings: Settings) -> list[WorkerView]:
    """Return the workers, those heard of last first, with the jobs they run; those that are long gone no more."""
    jobs = _running(session)
    shown = or_(
        Worker.stopped_at > now() - STOPPED_SHOWN,
        and_(Worker.stopped_at.is_(None), Worker.last_seen_at > now() - SILENT_SHOWN),
        Worker.id.in_(list(jobs)),
    )
    rows = session.scalars(select(Worker).where(shown).order_by(Worker.last_seen_at.desc()).limit(200)).all()
    return [_view(row, jobs[row.id], settings) for row in rows]


def job_names(session: Session, workers: Sequence[WorkerView]) -> dict[int, str]:
    """Return the names of the jobs that workers run, by number."""
    ids = {job for worker in workers for job in worker.jobs}
    return {row.id: row.name for row in session.execute(select(Job.id, Job.name).where(Job.id.in_(ids)))}


def _running(session: Session, worker_id: str | None = None) -> dict[str, list[int]]:
    """Return the jobs that run, by worker: of all workers, or of one."""
    running = select(Attempt.worker_id, Attempt.job_id).where(Attempt.state == "running").order_by(Attempt.job_id)
    if worker_id is not None:
        running = running.where(Attempt.worker_id == worker_id)
    jobs: dict[str, list[int]] = defaultdict(list)
    for worker, job in session.execute(running):
        jobs[worker].append(job)
    return jobs


def _view(row: Worker, jobs: list[int], settings: Settings) -> WorkerView:
    return WorkerView(
        id=row.id,
        name=row.name,
        host=row.host,
        engines=row.engines,
        versions=row.versions,
        gpus=row.gpus,
        slots=row.slots,
        busy_slots=row.busy_slots,
        drain=row.drain,
        alive=is_alive(row, settings),
        stopped=row.stopped_at is not None,
        jobs=jobs,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
    )
