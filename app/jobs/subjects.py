"""The models that a job of another kind than train works on: what `group:3`, `job:17@4000` and `water@3` stand for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import service as blobs
from app.artifacts.store import BlobStore
from app.db import reading
from app.engines.base import Engine, Model, ModelUse
from app.errors import Conflict, Invalid, NotFound
from app.jobs import bases, named_data
from app.models import service as models
from app.settings import Settings
from app.tables import Group, Job, JobModel
from app.wire.jobs import UsedModel
from app.wire.models import BaseRef, GroupRef
from app.wire.problems import Problem
from app.wire.worker import ModelGrant


@dataclass(frozen=True)
class Subject:
    """A file of weights that a job works on, and what an engine may know of it."""

    model: Model
    file_name: str


@dataclass(frozen=True)
class Places:
    """Where models are looked for."""

    sessions: sessionmaker[Session]
    settings: Settings
    store: BlobStore
    engine: str


def find(places: Places, uses: Iterable[ModelUse]) -> tuple[dict[str, list[Subject]], list[Problem]]:
    """Return what each reference stands for, and what is wrong with the others, with the pointers of the uses.

    For a base model that is still being inspected this waits, for a few seconds and outside any transaction.
    """
    found: dict[str, list[Subject]] = {}
    problems: list[Problem] = []
    for use in uses:
        try:
            found[use.text] = _find(places, use.text)
        except (Invalid, NotFound, Conflict) as error:
            each = error.problems if isinstance(error, Invalid) else [error.problem]
            problems += [problem.model_copy(update={"pointer": use.pointer}) for problem in each]
    return found, problems


def _find(places: Places, text: str) -> list[Subject]:
    if group := GroupRef.parse(text):
        with reading(places.sessions) as session:
            return _replicas(session, places, group)
    ref = BaseRef.parse(text)
    if ref is None:
        message = f"{text!r} names neither a group, nor a checkpoint of a job, nor a base model"
        hint = "Write group:ID, job:ID or NAME of a base model; group:3@4000, job:17@4000 and water@3 are exact."
        raise Invalid([Problem(code="bad-model", message=message, hint=hint)])
    if ref.job is not None:
        with reading(places.sessions) as session:
            return [_checkpoint(session, places, ref.job, ref.step)]
    found = bases.find(places.sessions, places.settings, places.store, text, places.engine)
    with reading(places.sessions) as session:
        job = session.get(Job, found.row.job_id) if found.row.job_id else None
        config = job.resolved if job else None
    model = Model(found.base.name, found.base.sha256, facts=found.base.facts, config=config)
    return [Subject(model, found.row.file_name)]


def _replicas(session: Session, places: Places, ref: GroupRef) -> list[Subject]:
    """Return a checkpoint of every replica of a group, in the order of their numbers.

    Raises:
        Invalid: with every replica that has none; the newest are not of one step.
        NotFound: there is no such group.
    """
    if session.get(Group, ref.group) is None:
        raise NotFound(f"there is no group {ref.group}", hint="`cairn ls` shows which job is in which group.")
    replicas = select(Job.id).where(Job.group_id == ref.group, Job.replica.is_not(None)).order_by(Job.replica)
    found: list[Subject] = []
    problems: list[Problem] = []
    for job_id in session.scalars(replicas).all():
        try:
            found.append(_checkpoint(session, places, job_id, ref.step))
        except (Invalid, NotFound, Conflict) as error:
            problem = error.problem
            problems.append(problem.model_copy(update={"message": f"group {ref.group}: {problem.message}"}))
    if problems:
        raise Invalid(problems)
    return found


def _checkpoint(session: Session, places: Places, job_id: int, step: int | None) -> Subject:
    """Return a job's checkpoint of a step, the newest without one. Raises NotFound, Conflict and Invalid."""
    checkpoint, file = models.checkpoint_file(session, job_id, step)
    job = session.get_one(Job, job_id)
    name = f"job:{job_id}@{checkpoint.step}"
    if job.engine != places.engine:
        message = f"{name} is a model of {job.engine}, but the submission is for {places.engine}"
        raise Invalid([Problem(code="wrong-engine", message=message, hint=f"Name models of {places.engine}.")])
    if not places.store.intact(file.blob_sha256):
        message = f"the file of {name} ({file.blob_sha256[:12]}…) is missing or damaged on the server"
        hint = f"Name another step; `cairn show {job_id}` lists them."
        raise Invalid([Problem(code="checkpoint-damaged", message=message, hint=hint)])
    return Subject(Model(name, file.blob_sha256, config=job.resolved), file.name.rsplit("/", 1)[-1])


def with_data(session: Session, engine: Engine, found: Mapping[str, list[Subject]]) -> dict[str, list[Subject]]:
    """Return the same models with what is known of the data that they were trained on."""
    configs = {one.model.sha256: one.model.config or {} for each in found.values() for one in each}
    uses = {use.text: use for config in configs.values() for use in engine.data_uses(config) if not use.validates}
    data = named_data.facts_of(session, uses.values())
    return {text: [replace(one, model=replace(one.model, data=data)) for one in each] for text, each in found.items()}


def group_of(uses: Sequence[ModelUse]) -> int | None:
    """Return the group that a job belongs to: the one whose replicas are all that it works on."""
    ref = GroupRef.parse(uses[0].text) if len(uses) == 1 else None
    return ref.group if ref else None


# --- rows -------------------------------------------------------------------------------------------------------------


def hold(session: Session, subjects: Iterable[Subject]) -> None:
    """Keep the files from being deleted until this transaction is over.

    Raises:
        Invalid: one was deleted meanwhile.
    """
    for sha256, name in sorted({(subject.model.sha256, subject.model.name) for subject in subjects}):
        if blobs.hold_blob(session, sha256) is None:
            message = f"{name} was deleted just now"
            raise Invalid([Problem(code="no-such-model", message=message, pointer="/config/models")])


def keep(session: Session, job_id: int, subjects: Iterable[Subject]) -> None:
    """Store what a job works on: it cannot be deleted while the job exists."""
    for ordinal, subject in enumerate(subjects):
        model = subject.model
        session.add(
            JobModel(
                job_id=job_id, ordinal=ordinal, name=model.name, file_name=subject.file_name, blob_sha256=model.sha256
            )
        )


def of_job(session: Session, job_id: int) -> Sequence[JobModel]:
    """Return the models that a job works on, in the order of its submission."""
    return session.scalars(select(JobModel).where(JobModel.job_id == job_id).order_by(JobModel.ordinal)).all()


def copy(session: Session, source_id: int, target_id: int) -> None:
    """Let one job work on what another one works on."""
    for row in of_job(session, source_id):
        values = {"ordinal": row.ordinal, "name": row.name, "file_name": row.file_name, "blob_sha256": row.blob_sha256}
        session.add(JobModel(job_id=target_id, **values))


def grants(session: Session, job_id: int) -> list[ModelGrant]:
    """Return the models as a worker is given them."""
    return [
        ModelGrant(name=row.name, file_name=row.file_name, sha256=row.blob_sha256, size=row.blob.size)
        for row in of_job(session, job_id)
    ]


def views(session: Session, job_id: int) -> list[UsedModel]:
    """Return the models as clients read them."""
    return [
        UsedModel(name=row.name, file_name=row.file_name, sha256=row.blob_sha256) for row in of_job(session, job_id)
    ]


def by_reference(found: Mapping[str, Sequence[Subject]]) -> dict[str, list[Model]]:
    """Return what an engine may know of what each reference stands for."""
    return {text: [subject.model for subject in subjects] for text, subjects in found.items()}
