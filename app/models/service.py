"""Base model versions: registered, inspected by a worker, found, promoted from checkpoints, listed."""

import difflib
from collections.abc import Collection, Iterable
from importlib.metadata import version as installed_version
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.artifacts.service import hold_blob, insert_if_absent, record_blob, release
from app.artifacts.store import BlobStore, Digests
from app.engines import registry
from app.engines.base import Base
from app.errands import service as errands
from app.errors import Conflict, Invalid, NotFound
from app.tables import BaseModel, BaseModelName, Blob, Checkpoint, CheckpointFile, Errand, Job
from app.wire.models import BaseFacts, BaseRef, ModelDetail, ModelPage, ModelState, ModelView
from app.wire.problems import Problem

MOST_USERS = 200
"""Jobs that a detail names at most."""


def register(
    session: Session,
    store: BlobStore,
    *,
    name: str,
    digests: Digests,
    file_name: str,
    source: str,
    engine: str,
    job_id: int | None = None,
    step: int | None = None,
) -> tuple[BaseModel, bool]:
    """Give a stored file the next version of a name, and have it inspected; return the version and whether it is new.

    The same bytes under the same name again are the version that stands, inspected anew only if they were refused for
    what may have changed since: Cairn, the engine's library, or what the worker could do. Bytes that were inspected
    under another name are ready at once.
    """
    numbers = _numbers(session, name)
    record_blob(session, store, digests)  # also of what stands: the same bytes again heal what was damaged
    standing = session.scalar(
        select(BaseModel).where(
            BaseModel.name == name, BaseModel.blob_sha256 == digests.sha256, BaseModel.engine == engine
        )
    )
    if standing is not None:
        if standing.state == "refused":
            _inspect(session, standing)
        return standing, False
    model = BaseModel(
        name=name,
        version=numbers.last_version + 1,
        engine=engine,
        blob_sha256=digests.sha256,
        size=digests.size,
        file_name=file_name,
        source=source,
        job_id=job_id,
        step=step,
    )
    numbers.last_version = model.version
    _inspect(session, model)
    session.add(model)
    session.flush()
    return model, True


def _numbers(session: Session, name: str) -> BaseModelName:
    """Return which numbers a name has had. Nobody else can take one before this transaction is over."""
    insert_if_absent(session, BaseModelName, name=name, last_version=0)
    return session.get_one(BaseModelName, name, with_for_update=True, populate_existing=True)


def _inspect(session: Session, model: BaseModel) -> None:
    """Have a file looked into, or take over what was found in the same bytes before."""
    errand = errands.order(
        session,
        kind="inspect",
        key=_inspection(model),
        engine=model.engine,
        order={},
        blob_sha256=model.blob_sha256,
        file_name=model.file_name,
    )
    _conclude(model, errand)


def _inspection(model: BaseModel) -> str:
    engine = registry.get(model.engine)
    assert engine is not None, f"a model of the unknown engine {model.engine} was registered"
    looked_with = (installed_version(engine.library), installed_version("cairn"))
    return errands.make_key(model.blob_sha256, engine.name, *looked_with)


def inspection(session: Session, model: BaseModel) -> Errand | None:
    """Return the errand that looks into a model's file, to wait for it."""
    return errands.find(session, "inspect", _inspection(model))


def settle(session: Session, errand: Errand) -> None:
    """Give every model that waited for an inspection what came of it."""
    waiting = select(BaseModel).where(
        BaseModel.blob_sha256 == errand.blob_sha256,
        BaseModel.engine == errand.engine,
        BaseModel.state == "inspecting",
    )
    for model in session.scalars(waiting.order_by(BaseModel.id)).all():
        _conclude(model, errand)
    session.flush()


def _conclude(model: BaseModel, errand: Errand) -> None:
    if errand.state == "refused":
        model.state, model.problem = "refused", errand.problem
    elif errand.state == "done":
        facts = BaseFacts.model_validate(errand.result)
        model.state, model.problem, model.facts = "ready", None, errand.result
        model.architecture, model.parameters = facts.architecture[:120], facts.parameters
        model.type_map = list(dict.fromkeys(element for branch in facts.branches for element in branch.type_map))
        model.branches = [branch.name for branch in facts.branches if branch.name]
    else:
        model.state, model.problem = "inspecting", None


# --- promotion --------------------------------------------------------------------------------------------------------


def checkpoint_file(session: Session, job_id: int, step: int | None = None) -> tuple[Checkpoint, CheckpointFile]:
    """Return a job's checkpoint of a step, the newest without one, and the file of it that can be used elsewhere.

    Raises:
        NotFound: `no-such-job`, or `no-checkpoint`: there is none (of that step, any more).
        Conflict: `no-training`: the job makes no model. `nothing-to-promote`: it holds no such file.
    """
    kind = session.scalar(select(Job.kind).where(Job.id == job_id))
    if kind is None:
        raise NotFound(f"There is no job {job_id}.", code="no-such-job", hint="`cairn ls` lists them.")
    if kind != "train":
        hint = "Name the training, job:ID or job:ID@STEP, or a base model."
        raise Conflict(f"Job {job_id} is a {kind} job: only trainings make models.", code="no-training", hint=hint)
    newest_first = (Checkpoint.step.desc(), Checkpoint.id.desc())
    rows = session.scalars(select(Checkpoint).where(Checkpoint.job_id == job_id).order_by(*newest_first)).all()
    checkpoint = next((row for row in rows if step in (None, row.step)), None)
    if checkpoint is None:
        raise _no_checkpoint(job_id, step, [row.step for row in rows])
    file = next((file for file in checkpoint.files if file.role == "checkpoint"), None)
    if file is None:
        raise Conflict(
            f"The checkpoint of step {checkpoint.step} of job {job_id} has no file of weights.",
            code="nothing-to-promote",
        )
    return checkpoint, file


def _no_checkpoint(job_id: int, step: int | None, steps: Collection[int]) -> NotFound:
    if not steps:
        hint = "Wait for its first checkpoint: `cairn show` tells when it has one."
        return NotFound(f"Job {job_id} has no checkpoint.", code="no-checkpoint", hint=hint)
    return NotFound(
        f"Job {job_id} has no checkpoint of step {step}.",
        code="no-checkpoint",
        hint=f"There are steps {', '.join(map(str, steps))}; only the newest are kept.",
    )


def promote(
    session: Session, store: BlobStore, job_id: int, step: int | None = None, name: str | None = None
) -> tuple[BaseModel, bool]:
    """Make a base model of a job's checkpoint; return it and whether it is new. The same again changes nothing.

    Its bytes are verified, which takes its time when this process has not met them yet: call `checkpoint_file` and
    `store.verify` before the transaction, so that here it costs nothing.

    Raises:
        NotFound, Conflict: as `checkpoint_file`.
        BlobMissing, BlobCorrupt: its bytes are not what they were.
    """
    checkpoint, file = checkpoint_file(session, job_id, step)
    blob = hold_blob(session, file.blob_sha256)
    if blob is None:  # the job's next checkpoint has pushed it out at this moment
        raise _no_checkpoint(job_id, checkpoint.step, [])
    store.verify(blob.sha256)
    return register(
        session,
        store,
        name=name or f"job-{job_id}",
        digests=Digests(blob.sha256, blob.md5, blob.size),
        file_name=file.name.rsplit("/", 1)[-1],
        source=f"job {job_id}, step {checkpoint.step}",
        engine=session.get_one(Job, job_id).engine,
        job_id=job_id,
        step=checkpoint.step,
    )


# --- finding ----------------------------------------------------------------------------------------------------------


def find(session: Session, ref: BaseRef) -> BaseModel | None:
    """Return the version that a reference names; without a version the newest that was not refused.

    A reference to a job's checkpoint finds the model that was made of it, if one was.
    """
    if ref.job is not None:
        return _find_promoted(session, ref.job, ref.step)
    query = select(BaseModel).where(BaseModel.name == ref.name)
    if ref.version is not None:
        return session.scalar(query.where(BaseModel.version == ref.version))
    return session.scalar(query.where(BaseModel.state != "refused").order_by(BaseModel.version.desc()).limit(1))


def _find_promoted(session: Session, job_id: int, step: int | None) -> BaseModel | None:
    try:
        _, file = checkpoint_file(session, job_id, step)
    except (NotFound, Conflict):  # a model outlives the checkpoint that it was made of
        which = BaseModel.step == step if step is not None else BaseModel.step.is_not(None)
    else:
        which = BaseModel.blob_sha256 == file.blob_sha256
    made = select(BaseModel).where(BaseModel.job_id == job_id, which)
    return session.scalar(made.order_by(BaseModel.step.desc(), BaseModel.id).limit(1))


def get(session: Session, reference: str) -> BaseModel:
    """Return the version that an id, `NAME`, `NAME@VERSION` or `job:ID[@STEP]` names.

    Of a name whose every version was refused: the newest.

    Raises:
        NotFound: `no-such-model`, with the names or versions that are near.
    """
    ref = BaseRef.parse(reference)
    found = session.get(BaseModel, int(reference)) if reference.isdecimal() and len(reference) < 19 else None
    if found is None and ref is not None:
        found = find(session, ref) or _newest(session, ref)
    if found is None:
        raise missing(session, reference)
    return found


def _newest(session: Session, ref: BaseRef) -> BaseModel | None:
    if ref.name is None or ref.version is not None:
        return None
    query = select(BaseModel).where(BaseModel.name == ref.name)
    return session.scalar(query.order_by(BaseModel.version.desc()).limit(1))


def get_exactly(session: Session, reference: str) -> BaseModel:
    """Return the version that an id or `NAME@VERSION` names: what is to go must be named fully.

    Raises:
        NotFound: `no-such-model`.
        Invalid: `version-needed`: it names no version.
    """
    model = get(session, reference)
    full = f"{model.name}@{model.version}"
    if reference not in (full, str(model.id)):
        message = f"{reference} is now {full}, but may be another version at the next moment."
        raise Invalid([Problem(code="version-needed", message=message, hint=f"Name it fully: {full}.")])
    return model


def missing(session: Session, reference: str) -> NotFound:
    """Return the error for a model that does not exist: `no-such-model`, with a hint at those that do."""
    return NotFound(f"There is no base model {reference}.", code="no-such-model", hint=_near(session, reference))


def _near(session: Session, reference: str) -> str:
    ref = BaseRef.parse(reference)
    if ref is not None and ref.job is not None:
        return f"`cairn model promote {ref.job}` makes one of its newest checkpoint."
    name = reference.partition("@")[0]
    versions = select(BaseModel.version).where(BaseModel.name == name).order_by(BaseModel.version.desc()).limit(10)
    if found := session.scalars(versions).all():
        return f"There are: {', '.join(f'{name}@{number}' for number in found)}."
    names = session.scalars(select(BaseModel.name).distinct().order_by(BaseModel.name).limit(1000)).all()
    if not names:
        return "There is none yet: `cairn model add FILE --name NAME` uploads one."
    near = difflib.get_close_matches(name, names, 3, 0.6)
    return f"Did you mean: {', '.join(near)}?" if near else f"There are: {', '.join(names[:10])}."


def base(model: BaseModel) -> Base:
    """Return what engines may know of a model that is ready."""
    assert model.facts is not None, f"the model {model.id} is {model.state}"
    return Base(f"{model.name}@{model.version}", model.blob_sha256, BaseFacts.model_validate(model.facts))


# --- reading and deleting ---------------------------------------------------------------------------------------------


def listed(
    session: Session,
    *,
    name: str | None = None,
    states: Collection[ModelState] = (),
    cursor: str | None = None,
    limit: int = 50,
) -> ModelPage:
    """Return versions, newest first; `name`: only those whose name contains it."""
    query = select(BaseModel).order_by(BaseModel.id.desc()).limit(limit + 1)
    if name:
        query = query.where(BaseModel.name.contains(name.lower(), autoescape=True))
    if states:
        query = query.where(BaseModel.state.in_(states))
    if cursor is not None:
        query = query.where(BaseModel.id < _position(cursor))
    rows = session.scalars(query).all()
    return ModelPage(
        items=[view(row) for row in rows[:limit]], next_cursor=str(rows[limit - 1].id) if len(rows) > limit else None
    )


def _position(cursor: str) -> int:
    if not cursor.isdecimal() or len(cursor) > 18:
        raise Invalid([Problem(code="bad-cursor", message=f"{cursor!r} is no cursor of this list.")])
    return int(cursor)


def view(model: BaseModel) -> ModelView:
    """Return a model as lists show it."""
    return ModelView.model_validate(_fields(model))


def detail(session: Session, model: BaseModel) -> ModelDetail:
    """Return a model as its own page shows it."""
    return ModelDetail.model_validate(_fields(model) | {"facts": model.facts, "used_by": users(session, model)})


def _fields(model: BaseModel) -> dict[str, Any]:
    columns = set(ModelView.model_fields) - {"sha256", "md5"}
    return {name: getattr(model, name) for name in columns} | {"sha256": model.blob_sha256, "md5": model.blob.md5}


def users(session: Session, model: BaseModel) -> list[int]:
    """Return the ids of the newest jobs that start from a model."""
    statement = select(Job.id).where(Job.base_model_id == model.id).order_by(Job.id.desc()).limit(MOST_USERS)
    return list(session.scalars(statement))


def delete(session: Session, model: BaseModel) -> list[str]:
    """Delete a model from which no job starts.

    Returns the digests of blobs to which nothing refers any more; the caller removes the bytes after the commit.

    Raises:
        Conflict: `model-in-use`, with the jobs that start from it.
    """
    digest = model.blob_sha256
    _lock(session, model)
    if jobs := users(session, model):
        raise Conflict(
            f"{model.name}@{model.version} cannot be deleted: {_jobs(jobs)} from it.",
            code="model-in-use",
            hint="What a job was made of stays as long as the job.",
        )
    session.delete(model)
    session.flush()
    if session.scalar(select(BaseModel.id).where(BaseModel.blob_sha256 == digest).limit(1)) is None:
        for errand in session.scalars(select(Errand).where(Errand.blob_sha256 == digest)).all():
            session.delete(errand)
        session.flush()
    return release(session, [digest])


def _lock(session: Session, model: BaseModel) -> None:
    """Let nothing begin to refer to a model until this transaction is over: a job, or more of what holds its bytes.

    In the order in which an upload (blob, errand) and the end of an inspection (errand, models) lock them, so that none
    of the three waits for another that waits for it.
    """
    digest = model.blob_sha256
    for held in (
        select(Blob.sha256).where(Blob.sha256 == digest),
        select(Errand.id).where(Errand.blob_sha256 == digest).order_by(Errand.id),
        select(BaseModel.id).where(BaseModel.id == model.id),
    ):
        session.execute(held.with_for_update())


def _jobs(ids: Iterable[int]) -> str:
    numbers = [str(number) for number in ids]
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    plural = len(numbers) > 1
    return f"{'jobs' if plural else 'job'} {', '.join(numbers[:10])}{more} {'start' if plural else 'starts'}"
