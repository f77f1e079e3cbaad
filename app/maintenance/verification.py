"""Verification: every stored file is hashed again; what is damaged is moved aside, and said to whom it concerns."""

import logging
import threading
from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import service as blobs
from app.artifacts.backends import Stamp
from app.artifacts.store import BlobStore
from app.db import reading, transaction
from app.errors import Conflict, NotFound
from app.jobs.timeline import tell
from app.maintenance import uses
from app.tables import Blob, Job, Verification
from app.tables.base import now
from app.wire.maintenance import BlobUse, DamagedBlob, VerificationView

log = logging.getLogger(__name__)

SILENT = timedelta(minutes=5)
"""One that was silent for so long has died with its process."""
REPORT_S = 2.0
CLOSE_S = 3.0
STOPPED = "the server was stopped before the end"
BATCH = 200


def begin(session: Session, *, quick: bool) -> Verification:
    """Record that a run through the store begins. Raises Conflict while another one goes on."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer anyway
        session.execute(text("SELECT pg_advisory_xact_lock(hashtext('verification'))"))
    running = newest(session)
    if running is not None and state(running) == "running":
        raise Conflict(
            f"the store is being verified already: {running.checked_blobs} of {running.total_blobs} files",
            code="verification-running",
            hint="`cairn verify` follows it.",
        )
    count, size = session.execute(select(func.count(), func.coalesce(func.sum(Blob.size), 0)).select_from(Blob)).one()
    row = Verification(quick=quick, total_blobs=count, total_bytes=int(size))
    session.add(row)
    session.flush()
    return row


def newest(session: Session) -> Verification | None:
    """Return the run that was begun last."""
    return session.scalar(select(Verification).order_by(Verification.id.desc()).limit(1))


def get(session: Session, verification_id: int) -> Verification:
    """Return a run. Raises NotFound."""
    row = session.get(Verification, verification_id)
    if row is None:
        raise NotFound(f"there is no verification {verification_id}")
    return row


def state(row: Verification) -> str:
    """Return running, done or failed."""
    if row.ended_at is not None:
        return "done" if row.problem is None else "failed"
    return "running" if now() - row.heard_at < SILENT else "failed"


def view(row: Verification) -> VerificationView:
    """Return what a client reads."""
    standing = state(row)
    lost = "its server stopped before the end" if standing == "failed" else None
    return VerificationView.model_validate(
        {
            "state": standing,
            "problem": row.problem or lost,
            **{name: getattr(row, name) for name in VerificationView.model_fields if name not in ("state", "problem")},
        }
    )


class Run:
    """One run through the store, in a thread of its own."""

    def __init__(self, sessions: sessionmaker[Session], store: BlobStore, verification_id: int, *, quick: bool) -> None:
        self._sessions, self._store = sessions, store
        self._id, self._quick = verification_id, quick
        self._checked_blobs = self._checked_bytes = 0
        self._damaged: list[DamagedBlob] = []
        self._healed: list[DamagedBlob] = []
        self._closed = threading.Event()
        self._over = threading.Event()

    def start(self) -> None:
        """Begin, and return at once."""
        for work in (self._work, self._beat):
            threading.Thread(target=work, name="verification", daemon=True).start()

    def close(self) -> None:
        """End early: the server stops. A large file that is being hashed is not waited for."""
        self._closed.set()
        if not self._over.wait(timeout=CLOSE_S):
            self._report(STOPPED, ended=True)

    def run(self) -> None:
        """Do it here and now, and record how it ended."""
        problem = None
        try:
            self._verify_all()
        except Exception as error:
            log.exception("the verification %s ended early", self._id)
            problem = f"{type(error).__name__}: {error}"
        if self._closed.is_set():
            problem = STOPPED
        self._report(problem, ended=True)

    def _work(self) -> None:
        try:
            self.run()
        finally:
            self._over.set()

    def _beat(self) -> None:
        """Report progress again and again: hashing one large file takes its time."""
        while not self._over.wait(REPORT_S):
            try:
                self._report(None, ended=False)
            except Exception:  # the next report says the same and more
                log.exception("the progress of verification %s could not be recorded", self._id)

    def _report(self, problem: str | None, *, ended: bool) -> None:
        with transaction(self._sessions) as session:
            # Locked, so that no older report of the other thread follows this one.
            row = session.get_one(Verification, self._id, with_for_update=True)
            if row.ended_at is not None:
                return
            row.checked_blobs, row.checked_bytes = self._checked_blobs, self._checked_bytes
            row.damaged = [one.model_dump(mode="json") for one in list(self._damaged)]
            row.healed = [one.model_dump(mode="json") for one in list(self._healed)]
            row.heard_at = now()
            row.problem = problem
            row.ended_at = now() if ended else None

    def _verify_all(self) -> None:
        for sha256, size in self._blobs():
            if self._closed.is_set():
                return
            self._verify(sha256, size)
            self._checked_blobs += 1
            self._checked_bytes += size

    def _blobs(self) -> Iterator[tuple[str, int]]:
        """Yield every blob that the database knew when it began; none of them is held while others are hashed."""
        with reading(self._sessions) as session:
            rows = [(sha256, size) for sha256, size in session.execute(select(Blob.sha256, Blob.size))]
        for first in range(0, len(rows), BATCH):
            batch = dict(rows[first : first + BATCH])
            with reading(self._sessions) as session:
                there = set(session.scalars(select(Blob.sha256).where(Blob.sha256.in_(batch))))
            yield from ((sha256, size) for sha256, size in batch.items() if sha256 in there)

    def _verify(self, sha256: str, size: int) -> None:
        stamp = self._store.backend.stamp(sha256)
        problem = self._store.problem(sha256, size, quick=self._quick)
        with reading(self._sessions) as session:
            row = session.get(Blob, sha256)
            known = row is not None and row.damaged_at is not None
            if row is None or (problem is None and not known):
                return  # good, or removed by retention meanwhile
            found = uses.of(session, [sha256]).get(sha256, [])
            found_at = row.damaged_at or now()
        if problem is None:
            self._heal(DamagedBlob(sha256=sha256, size=size, problem="good again", uses=found, found_at=found_at))
        else:
            damaged = DamagedBlob(sha256=sha256, size=size, problem=problem, uses=found, found_at=found_at)
            self._put_aside(damaged, stamp, known=known)

    def _put_aside(self, damaged: DamagedBlob, stamp: Stamp | None, *, known: bool) -> None:
        # Under the row's lock nobody can record the same bytes anew between the look and the move.
        with transaction(self._sessions) as session:
            blobs.lock(session, [damaged.sha256])
            if self._store.backend.stamp(damaged.sha256) != stamp:
                return  # uploaded again since
            self._store.quarantine(damaged.sha256)
            blobs.note_damaged(session, [damaged.sha256])
        self._damaged.append(damaged)
        log.error("blob %s is damaged: %s; it was used as %s", damaged.sha256, damaged.problem, _words(damaged.uses))
        if not known:
            self._tell(
                damaged.uses, "damaged", f"is damaged ({damaged.problem}) and put aside: it is not used any more"
            )

    def _heal(self, healed: DamagedBlob) -> None:
        with transaction(self._sessions) as session:
            row = session.get(Blob, healed.sha256)
            if row is not None:
                row.damaged_at = None
        self._healed.append(healed)
        self._tell(healed.uses, "healed", "was damaged and is good again")

    def _tell(self, found: list[BlobUse], kind: str, words: str) -> None:
        """Put it on the timeline of every job concerned, each in a transaction of its own: blobs are locked before jobs."""
        for use in found:
            if use.job is None:
                continue
            with transaction(self._sessions) as session:
                job = session.get_one(Job, use.job, with_for_update=True, populate_existing=True)
                tell(session, job.id, kind, f"{use.words} {words}")
                job.version += 1


def _words(found: list[BlobUse]) -> str:
    return ", ".join(use.words for use in found) or "nothing"
