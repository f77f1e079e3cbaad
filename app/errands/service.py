"""Errands: ordered once per key, taken by one worker at a time, ended once."""

import hashlib
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import BoundedSemaphore
from typing import Any, cast

from pydantic import ValidationError
from sqlalchemy import ColumnElement, CursorResult, Select, or_, select, update
from sqlalchemy.orm import Session, sessionmaker, undefer

from app.artifacts.service import insert_if_absent
from app.auth import ErrandIdentity, errand_superseded, hash_token, new_token
from app.db import reading
from app.errors import Conflict, Invalid, NotFound
from app.queue import ring_errand_after_commit
from app.settings import Settings
from app.strict_json import loads
from app.tables import Errand, Worker
from app.tables.base import now
from app.validation import problems_of
from app.wire.models import BaseFacts, Inventory
from app.wire.problems import Problem
from app.wire.worker import ErrandKind, ErrandResult

MAX_TRIES = 3
"""Workers that may die over an errand before it is refused."""

UNUSABLE = "unusable"
"""Code of a refusal that is about the file or model itself, and stands. Any other (no memory, no time, dead workers) may
be the worker's doing, so that ordering it again tries anew.
"""

RING_AGAIN = timedelta(seconds=10)
"""An errand that was rung longer ago than this and still waits is rung again: the message may be lost."""

ENDED = frozenset({"done", "refused"})

_POLL_S = 0.05
_BIGGEST = 2**63 - 1
_waiters = BoundedSemaphore(16)
"""Requests that wait at the same time, each on a thread of the pool: well below the 40 there are."""


@dataclass(frozen=True)
class Claimed:
    """A claim that was granted. The token is shown this once; only its hash is stored."""

    errand: Errand
    token: str


def order(
    session: Session,
    *,
    kind: ErrandKind,
    key: str,
    engine: str,
    order: dict[str, Any],
    blob_sha256: str | None = None,
    file_name: str | None = None,
) -> Errand:
    """Return the errand of this kind and key: the one that stands, with its result if it has ended, or a new one.

    It cannot end before this transaction is over, so what is stored here as waiting for it is seen when it ends. One
    that was refused for lack of time, memory or living workers is tried anew.
    """
    new = insert_if_absent(
        session,
        Errand,
        kind=kind,
        key=key,
        engine=engine,
        state="waiting",
        order=order,
        blob_sha256=blob_sha256,
        file_name=file_name,
        tries=0,
        rung_at=now(),
        created_at=now(),
    )
    errand = session.scalars(_by_key(kind, key).with_for_update().execution_options(populate_existing=True)).one()
    if may_be_tried_anew(errand):
        errand.state, errand.tries, errand.problem, errand.ended_at = "waiting", 0, None, None
        errand.rung_at, new = now(), True
        session.flush()
    if new:
        ring_errand_after_commit(session, engine, errand.id)
    return errand


def may_be_tried_anew(errand: Errand) -> bool:
    """Return whether an errand was refused for what the worker could not do: ordering it again begins it again."""
    return errand.state == "refused" and errand.problem is not None and errand.problem["code"] != UNUSABLE


def find(session: Session, kind: ErrandKind, key: str) -> Errand | None:
    """Return the errand of this kind and key."""
    return session.scalar(_by_key(kind, key))


def _by_key(kind: ErrandKind, key: str) -> Select[Errand]:
    return select(Errand).where(Errand.kind == kind, Errand.key == key).options(undefer(Errand.result))


def make_key(*parts: str) -> str:
    """Return the key of an errand whose result depends on these texts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def attended(session: Session, engine: str, settings: Settings) -> bool:
    """Return whether a worker is there that does this engine's errands."""
    return engine in _attended(session, settings)


def _attended(session: Session, settings: Settings) -> set[str]:
    alive = select(Worker.engines).where(*_alive(settings))
    return {engine for engines in session.scalars(alive) for engine in engines}


def _alive(settings: Settings) -> tuple[ColumnElement[bool], ...]:
    return Worker.last_seen_at > now() - timedelta(seconds=settings.lease_s), Worker.stopped_at.is_(None)


def wait(sessions: sessionmaker[Session], errand_id: int, timeout_s: float) -> Errand:
    """Return an errand once it has ended, or as it is after `timeout_s`.

    No transaction is open meanwhile. When very many wait already, it is returned as it is, at once.

    Raises:
        NotFound: it was deleted meanwhile, with the model it was about.
    """
    until = time.monotonic() + timeout_s
    if _waiters.acquire(blocking=False):
        try:
            while time.monotonic() < until and not _has_ended(sessions, errand_id):
                time.sleep(_POLL_S)
        finally:
            _waiters.release()
    with reading(sessions) as session:
        errand = session.get(Errand, errand_id, options=[undefer(Errand.result)])
    if errand is None:
        raise NotFound(f"errand {errand_id} was deleted while it was waited for")
    return errand


def _has_ended(sessions: sessionmaker[Session], errand_id: int) -> bool:
    with reading(sessions) as session:
        return session.scalar(select(Errand.state).where(Errand.id == errand_id)) in (ENDED | {None})


# --- the worker's side ------------------------------------------------------------------------------------------------


def claim(session: Session, errand_id: int, worker: Worker, settings: Settings) -> Claimed:
    """Give a waiting errand to a worker, if nobody else has it.

    Raises:
        Conflict: `not-claimable`: it is gone, taken, over, or not for this worker's engines.
    """
    token = new_token("errand")
    taken = _swap(
        session,
        Errand.id == errand_id,
        Errand.state == "waiting",
        Errand.engine.in_(list(worker.engines)),
        values={
            "state": "taken",
            "worker_id": worker.id,
            "token_sha256": hash_token(token),
            "lease_expires_at": now() + timedelta(seconds=settings.errand_s),
            "tries": Errand.tries + 1,
        },
    )
    if not taken:
        raise _not_claimable(session, errand_id, worker)
    return Claimed(session.get_one(Errand, errand_id, populate_existing=True), token)


def _not_claimable(session: Session, errand_id: int, worker: Worker) -> Conflict:
    errand = session.get(Errand, errand_id, populate_existing=True)
    if errand is None:
        why = "it does not exist"
    elif errand.engine not in worker.engines:
        why = f"it needs the engine {errand.engine}, which this worker lacks"
    else:
        why = f"it is {errand.state}"
    return Conflict(f"errand {errand_id} cannot be claimed: {why}", code="not-claimable", hint="Forget this message.")


def finish(session: Session, holder: ErrandIdentity, sent: bytes) -> Errand:
    """End an errand with what its worker sent, an `ErrandResult` as JSON. What is malformed ends it as refused.

    Raises:
        Conflict: `errand-superseded`: it was given to another worker, or is over.
    """
    errand = session.get(Errand, holder.id, with_for_update=True, populate_existing=True)
    if errand is None or errand.state != "taken" or errand.token_sha256 != holder.token_sha256:
        raise errand_superseded(holder.id)
    outcome = _read(errand, sent)
    if isinstance(outcome, Problem):
        _refuse(errand, outcome)
    else:
        errand.state, errand.result, errand.ended_at = "done", outcome, now()
    _let_go(errand)
    session.flush()
    return errand


def _read(errand: Errand, sent: bytes) -> dict[str, Any] | Problem:
    """Return the result that a worker sent as it is stored, or why there is none."""
    try:
        message = ErrandResult.model_validate(loads(sent, "the worker's answer"))
        if (message.result is None) == (message.problem is None):
            return _malformed("it needs exactly one of `result` and `problem`")
        if message.problem is not None:
            return message.problem
        if errand.kind == "inventory":
            return Inventory.model_validate(message.result).model_dump(mode="json")
        facts = BaseFacts.model_validate(message.result)
    except ValidationError as error:
        return _malformed(problems_of(error.errors())[0].message)
    except Invalid as error:
        return _malformed(str(error))
    return _malformed(wrong) if (wrong := _contradiction(errand, facts)) else facts.model_dump(mode="json")


def _contradiction(errand: Errand, facts: BaseFacts) -> str | None:
    if facts.engine != errand.engine:
        return f"it was found to be of the engine {facts.engine}, not {errand.engine}"
    if not facts.branches:
        return "no model was found in it"
    if not (0 <= facts.parameters <= _BIGGEST and 0 <= (facts.step or 0) <= _BIGGEST):
        return f"{facts.parameters} parameters and step {facts.step} cannot be"
    if not all(0 <= seed <= _BIGGEST for seed in (facts.seed or 0, *(facts.seeds or {}).values())):
        return "a seed is negative or too large to be one"
    return None


def _malformed(why: str) -> Problem:
    return Problem(
        code="malformed-result",
        message=f"The worker's answer about it is not in the agreed form: {why}.",
        hint="Is the worker of the server's version? Otherwise the file is damaged, or made to mislead.",
    )


def _refuse(errand: Errand, problem: Problem) -> None:
    errand.state, errand.problem, errand.ended_at = "refused", problem.model_dump(mode="json"), now()


def _let_go(errand: Errand) -> None:
    errand.worker_id = errand.token_sha256 = errand.lease_expires_at = None


# --- upkeep -----------------------------------------------------------------------------------------------------------


def overdue(session: Session, settings: Settings, limit: int) -> list[int]:
    """Return ids of errands whose time is up, or whose worker has not been heard of for a lease."""
    return list(session.scalars(select(Errand.id).where(*_overdue(settings)).order_by(Errand.id).limit(limit)))


def _overdue(settings: Settings) -> tuple[ColumnElement[bool], ...]:
    alive = select(Worker.id).where(*_alive(settings))
    return Errand.state == "taken", or_(Errand.lease_expires_at < now(), Errand.worker_id.not_in(alive))


def expire(session: Session, errand_id: int, settings: Settings) -> Errand | None:
    """Take an overdue errand from its worker: it waits for another, or is refused when it cost too many already.

    Returns None when it is not overdue any more.
    """
    statement = select(Errand).where(Errand.id == errand_id, *_overdue(settings)).with_for_update()
    errand = session.scalar(statement.execution_options(populate_existing=True))
    if errand is None:
        return None
    if errand.tries >= MAX_TRIES:
        _refuse(errand, _abandoned(errand))
    else:
        errand.state, errand.rung_at = "waiting", now()
        ring_errand_after_commit(session, errand.engine, errand.id)
    _let_go(errand)
    session.flush()
    return errand


def _abandoned(errand: Errand) -> Problem:
    what = f"the file {errand.file_name}" if errand.kind == "inspect" else "listing the tensors of this model"
    return Problem(
        code="errand-abandoned",
        message=f"{MAX_TRIES} workers died over {what}, or did not finish in time.",
        hint="The workers' logs say why; they may lack memory. Send it again to have it tried again, "
        "with a larger CAIRN_ERRAND_S on the server if it is only slow.",
    )


def unanswered(session: Session, settings: Settings, limit: int) -> list[tuple[int, datetime]]:
    """Return (id, last ring) of errands that wait although a worker of their engine is there, the oldest first."""
    statement = select(Errand.id, Errand.rung_at).where(
        Errand.state == "waiting",
        Errand.rung_at < now() - RING_AGAIN,
        Errand.engine.in_(_attended(session, settings)),
    )
    return [(row.id, row.rung_at) for row in session.execute(statement.order_by(Errand.id).limit(limit))]


def ring_again(session: Session, errand_id: int, rung_at: datetime) -> bool:
    """Ring for a waiting errand after the commit, unless another process has done so since `rung_at`."""
    if not _swap(
        session,
        Errand.id == errand_id,
        Errand.state == "waiting",
        Errand.rung_at == rung_at,
        values={"rung_at": now()},
    ):
        return False
    ring_errand_after_commit(session, session.get_one(Errand, errand_id).engine, errand_id)
    return True


def _swap(session: Session, *conditions: ColumnElement[bool], values: dict[str, Any]) -> bool:
    """Change the errand if it is as expected; return whether it was."""
    statement = update(Errand).where(*conditions).values(**values).execution_options(synchronize_session=False)
    return cast("CursorResult[Any]", session.execute(statement)).rowcount == 1
