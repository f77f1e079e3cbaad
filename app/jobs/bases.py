"""The base model that a submission names: found or promoted, waited for while it is inspected, or why it cannot be used."""

from dataclasses import dataclass

from sqlalchemy.orm import Session, sessionmaker

from app.artifacts.store import BlobStore
from app.db import reading, transaction
from app.engines.base import Base
from app.errands import service as errands
from app.errors import Conflict, Invalid, NotFound
from app.models import service as models
from app.settings import Settings
from app.tables import BaseModel
from app.wire.models import BaseRef
from app.wire.problems import Problem

POINTER = "/start/base"


@dataclass(frozen=True)
class Found:
    """A base that is ready, and what the engine may know of it."""

    row: BaseModel
    base: Base


def find(sessions: sessionmaker[Session], settings: Settings, store: BlobStore, text: str, engine: str) -> Found:
    """Return the base that `text` names. A checkpoint of a job is made a base model, in a transaction of its own.

    While it is being inspected this waits, for a few seconds and outside any transaction.

    Raises:
        Invalid: it is not a reference, does not exist, was refused, is for another engine, or is not inspected yet.
    """
    ref = BaseRef.parse(text)
    if ref is None:
        raise _unusable(
            "bad-base",
            f"{text!r} names neither a base model nor a checkpoint of a job",
            "Write NAME or NAME@VERSION, such as water@3, or job:ID or job:ID@STEP, such as job:17@4000.",
        )
    try:
        row = _promoted(sessions, store, ref) if ref.job is not None else _named(sessions, ref)
    except (NotFound, Conflict) as error:
        raise Invalid([_about_base(error.problem)]) from None
    if row.engine != engine:
        message = f"{_name(row)} is a model of {row.engine}, but the submission is for {engine}"
        raise _unusable("wrong-engine", message, f"Choose a base of {engine}, or engine: {row.engine}.")
    return _ready(sessions, settings, row)


def _name(row: BaseModel) -> str:
    return f"{row.name}@{row.version}"


def _unusable(code: str, message: str, hint: str | None) -> Invalid:
    return Invalid([Problem(code=code, message=message, pointer=POINTER, hint=hint)])


def deleted(row: BaseModel) -> Problem:
    """Return what is wrong with a base that was there a moment ago."""
    return Problem(code="no-such-model", message=f"{_name(row)} was deleted just now", pointer=POINTER)


def _about_base(problem: Problem) -> Problem:
    return problem.model_copy(update={"pointer": POINTER})


def _named(sessions: sessionmaker[Session], ref: BaseRef) -> BaseModel:
    """Return the version of a name; of a name whose every version was refused the newest. Raises NotFound."""
    with reading(sessions) as session:
        try:
            row = models.find(session, ref) or models.get(session, str(ref))
            if row.name != ref.name:  # a name of digits only reads like an id
                raise models.missing(session, str(ref))
        except NotFound as error:
            upload = f"`cairn model add FILE --name {ref.name}` uploads one."
            if "model add" not in (error.problem.hint or ""):
                error.problem.hint = f"{error.problem.hint} {upload}"
            raise
    return row


def _promoted(sessions: sessionmaker[Session], store: BlobStore, ref: BaseRef) -> BaseModel:
    """Return the base model that was, or now is, made of a job's checkpoint. Raises NotFound and Conflict."""
    assert ref.job is not None
    with reading(sessions) as session:
        found = models.find(session, ref)
        # What was refused for want of time or memory may go well now: promoting it again asks again.
        if found is not None and found.state != "refused":
            return found
        _, file = models.checkpoint_file(session, ref.job, ref.step)
    store.verify(file.blob_sha256)  # hashes what this process has not met yet, before the write lock is taken
    with transaction(sessions) as session:
        return models.promote(session, store, ref.job, ref.step)[0]


def _ready(sessions: sessionmaker[Session], settings: Settings, row: BaseModel) -> Found:
    if row.state == "inspecting":
        _wait(sessions, settings, row)
    with reading(sessions) as session:
        now = session.get(BaseModel, row.id)
        if now is None:
            raise Invalid([deleted(row)])
        if now.state == "ready":
            return Found(now, models.base(now))
        if now.state == "refused":
            reason = Problem.model_validate(now.problem)
            raise _unusable("base-refused", f"{_name(row)} cannot be used: {reason.message}", reason.hint)
        raise _not_ready(now, attended=errands.attended(session, now.engine, settings))


def _wait(sessions: sessionmaker[Session], settings: Settings, row: BaseModel) -> None:
    with reading(sessions) as session:
        errand = models.inspection(session, row)
        attended = errands.attended(session, row.engine, settings)
    if errand is not None and attended:
        errands.wait(sessions, errand.id, settings.plan_wait_s)


def _not_ready(row: BaseModel, *, attended: bool) -> Invalid:
    if attended:
        why = "a worker is still looking into its file"
        hint = "Submit it again in a moment."
    else:
        why = f"its file was not looked into, because no worker of {row.engine} is alive"
        hint = "Start a worker (`cairn up`, or `cairn worker`), then submit it again."
    return _unusable("base-not-ready", f"{_name(row)} is not ready: {why}", hint)
