"""From a submission to what answers it: prepared, checked against what is here already, then stored or found."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.artifacts import service as blobs
from app.artifacts.store import BlobStore
from app.db import reading, transaction
from app.jobs import preparation, replicas, submission, twins, weight_check
from app.jobs.chosen import Chosen
from app.jobs.preparation import Prepared
from app.jobs.replicas import PreparedGroup
from app.jobs.submission import SubmitRequest
from app.jobs.twins import Found, Wanted
from app.settings import Settings
from app.tables import Group, Job
from app.wire.resolution import Check, WeightCheck
from app.wire.submission import JobSubmit

Decided = tuple[WeightCheck | None, list[Found]]
"""What becomes of a submission as a whole, and of each training of it. None: it is no training."""


@dataclass(frozen=True)
class Answer:
    """The job that answers a submission, of a group the first one, and whether it is new."""

    job: Job
    new: bool
    reused: WeightCheck | None = None
    """Why a job that was there is the answer; None when its idempotency key says so."""


def prepare(
    sessions: sessionmaker[Session], settings: Settings, store: BlobStore, submit: JobSubmit
) -> Prepared | PreparedGroup:
    """Prepare one job, or a group of replicas. Waits and raises as `preparation.prepare`."""
    one = preparation.prepare if submit.replicas == 1 else replicas.prepare
    return one(sessions, settings, store, submit)


def check(sessions: sessionmaker[Session], settings: Settings, store: BlobStore, submit: JobSubmit) -> Check:
    """Say what a submission would become, of replicas the first. Waits and raises as `preparation.prepare`."""
    prepared = prepare(sessions, settings, store, submit)
    if isinstance(prepared, PreparedGroup):
        answer = replicas.checked(sessions, settings, prepared)
    else:
        answer = preparation.checked(sessions, settings, prepared)
    return answer.model_copy(update={"weight_check": foresee(sessions, store, prepared)})


def foresee(
    sessions: sessionmaker[Session], store: BlobStore, prepared: Prepared | PreparedGroup
) -> WeightCheck | None:
    """Return what `accept` would decide, and record what is damaged.

    Hashes what this process has not met yet: call it before the transaction of `accept`.
    """
    with reading(sessions) as session:
        whole, found = _together(session, [twins.look(session, store, one) for one in _wanted(prepared)])
    if damaged := frozenset[str]().union(*(one.damaged for one in found)):
        with transaction(sessions) as session:
            blobs.note_damaged(session, damaged)
    return whole


def accept(session: Session, store: BlobStore, prepared: Prepared | PreparedGroup, request: SubmitRequest) -> Answer:
    """Answer a submission: with the job of the same idempotency key, with a twin, or with a new job.

    Raises:
        Conflict: `twin-exists`: the same training is here, and what then is to be done was not said, or was to refuse.
        Invalid: as `submission.create`.
    """
    wanted = _wanted(prepared)
    twins.hold(session, wanted)
    if earlier := submission.find_repeated(session, request):
        return Answer(earlier, new=False)
    if isinstance(prepared, Prepared) and (same := _same_task(session, prepared)):
        return Answer(twins.reuse(session, same), new=False, reused=same)
    whole, found = _together(session, [twins.settle(session, store, one) for one in wanted])
    if whole is not None and whole.decision == "refused":
        raise weight_check.refusal(whole)
    if whole is not None and whole.decision == "reuse":
        job = twins.reuse(session, whole)
        for member, decided in zip(_members(prepared), found, strict=True):
            twins.measure_too(session, decided.check, member.test_on, Chosen.of_submission(member.submit))
        return Answer(job, new=False, reused=whole)
    if isinstance(prepared, PreparedGroup):
        job, new = replicas.create(session, prepared, request)
    else:
        job, new = submission.create(session, prepared, request)
    if new:
        for one, decided in zip(_trainings(session, job, len(found)), found, strict=True):
            twins.act(session, one, decided)
    return Answer(job, new)


def known(session: Session, request: SubmitRequest) -> Answer:
    """Answer a submission whose idempotency key is known."""
    job = submission.find_repeated(session, request)
    assert job is not None, "jobs are never deleted"
    return Answer(job, new=False)


def _same_task(session: Session, prepared: Prepared) -> WeightCheck | None:
    return twins.same_task(session, prepared.submit, prepared.resolution.digest)


def _members(prepared: Prepared | PreparedGroup) -> Sequence[Prepared]:
    return prepared.members if isinstance(prepared, PreparedGroup) else (prepared,)


def _wanted(prepared: Prepared | PreparedGroup) -> list[Wanted]:
    return [
        Wanted(one.resolution.digest, one.submit.determinism, one.submit.on_existing)
        for one in _members(prepared)
        if one.submit.kind == "train"
    ]


def _trainings(session: Session, first: Job, count: int) -> Sequence[Job]:
    """Return the jobs that were stored for a submission of so many trainings."""
    if count < 2:
        return [first][:count]
    replicas_of = select(Job).where(Job.group_id == first.group_id, Job.replica.is_not(None))
    return session.scalars(replicas_of.order_by(Job.replica)).all()


def _together(session: Session, found: Sequence[Found]) -> Decided:
    """Decide on the replicas of a group as a whole; on a single training as was decided."""
    if len(found) < 2:
        return (found[0].check if found else None), list(found)
    group = found[0].group
    if group is not None and all(one.check.decision == "reuse" and one.group == group for one in found):
        row = session.get_one(Group, group)
        if row.size == len(found):
            summary = f"Group {row.id}, {row.name}, is the same {row.size} trainings: it is the answer."
            return found[0].check.model_copy(update={"summary": summary}), list(found)
    own = [_of_its_own(one) for one in found]
    return _summed_up([one.check for one in own]), own


def _of_its_own(found: Found) -> Found:
    """Return what becomes of a replica, which has to be a job of its own: it takes over what a completed twin has."""
    check = found.check
    if check.decision != "reuse":
        return found
    if found.good is None:
        words = f"{check.summary} But a replica of a group is a job of its own, and it left nothing to take over."
        return replace(found, check=check.model_copy(update={"decision": "refused", "summary": words}))
    update = {"decision": "resume", "step": found.good.step}
    return replace(found, check=check.model_copy(update=update))


def _summed_up(checks: Sequence[WeightCheck]) -> WeightCheck:
    """Return one report on all replicas."""
    refused = [check for check in checks if check.decision == "refused"]
    count = Counter(check.decision for check in checks)
    if refused:
        first = refused[0]
        words = f"For {len(refused)} of {len(checks)} replicas the same training is here already. {first.summary}"
    else:
        first = next((check for check in checks if check.decision == "resume"), checks[0])
        words = (
            f"Of {len(checks)} replicas {count['resume']} go on from twins, {count['scratch']} begin from the start."
        )
    return first.model_copy(
        update={
            "twins": {job: state for check in checks for job, state in check.twins.items()},
            "checkpoints": [file for check in checks for file in check.checkpoints],
            "summary": words if count["scratch"] < len(checks) or first.twins else first.summary,
        }
    )
