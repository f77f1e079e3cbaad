"""Replicas: one submission becomes many jobs that differ in nothing but their seeds."""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from app.artifacts.store import BlobStore
from app.engines.documents import dotted, lookup, parts
from app.engines.seeds import derive
from app.errors import Invalid
from app.jobs import preparation, submission
from app.jobs.preparation import Prepared
from app.jobs.submission import SubmitRequest
from app.settings import Settings
from app.tables import Group, Job
from app.wire.base import MAX_NAME
from app.wire.problems import Notice, Problem
from app.wire.resolution import Check
from app.wire.submission import MAX_SEED, JobSubmit


@dataclass(frozen=True)
class PreparedGroup:
    """A submission of several replicas that would run, or whose plan has yet to be made."""

    name: str
    root: int
    """From which the root seed of every replica is derived."""
    members: tuple[Prepared, ...]


def prepare(sessions: sessionmaker[Session], settings: Settings, store: BlobStore, submit: JobSubmit) -> PreparedGroup:
    """Resolve every replica of a submission. Base and transfer plan are looked for once: no seed changes them.

    Waits and raises as `preparation.prepare` does.

    Raises:
        Invalid: with everything that is wrong; `equal-replicas` when nothing would differ.
    """
    if submit.kind != "train":
        message = f"replicas is {submit.replicas}, but only trainings have replicas, not jobs of kind {submit.kind}"
        raise Invalid([Problem(code="contradiction", message=message, pointer="/replicas", hint="Leave it out.")])
    root = submit.seed if submit.seed is not None else secrets.randbelow(MAX_SEED + 1)
    first = preparation.prepare(sessions, settings, store, submit.model_copy(update={"seed": root_of(root, 1)}))
    name = submission.name_of(first)
    members = tuple(
        preparation.seeded_anew(
            first, submit.model_copy(update={"name": _numbered(name, number), "seed": root_of(root, number)})
        )
        for number in range(1, submit.replicas + 1)
    )
    return PreparedGroup(name, root, _warned(members))


def _numbered(name: str, number: int) -> str:
    end = f" #{number}"
    return name[: MAX_NAME - len(end)] + end


def root_of(root: int, number: int) -> int:
    """Return the root seed of a replica, which are numbered from 1, in a group with this root."""
    return derive(root, f"replica.{number}")


def checked(sessions: sessionmaker[Session], settings: Settings, group: PreparedGroup) -> Check:
    """Say what the first replica would become, and which root seed every one would have."""
    answer = preparation.checked(sessions, settings, group.members[0])
    roots = [one.resolution.seed for one in group.members]
    return answer.model_copy(update={"group_seed": group.root, "replica_seeds": roots})


def _warned(members: tuple[Prepared, ...]) -> tuple[Prepared, ...]:
    """Return replicas whose warnings say what is the same in all of them. Raises Invalid when everything is."""
    first, second = members[0].resolution, members[1].resolution
    if first.digest == second.digest:
        message = f"the {len(members)} replicas would be one training {len(members)} times: no seed of it is drawn"
        hint = "Remove seeds from the configuration, or submit it once."
        raise Invalid([Problem(code="equal-replicas", message=message, pointer="/replicas", hint=hint)])
    notices = list(_shared_seeds(members[0]))
    return tuple(
        replace(one, resolution=one.resolution.model_copy(update={"warnings": [*one.resolution.warnings, *notices]}))
        for one in members
    )


def _shared_seeds(prepared: Prepared) -> Iterator[Notice]:
    """Yield a warning for each component whose seed the configuration fixes: it is the same in every replica."""
    resolution = prepared.resolution
    places = {".".join(parts(at)): at for at in resolution.origins}
    for component, seed in resolution.seeds.items():
        at = places.get(f"{component}.seed")
        if at is None or resolution.origins[at].origin == "seed":
            continue
        yield Notice(
            code="equal-in-replicas",
            message=f"{dotted(at)} is {seed} in every replica: what {component} draws is the same in all of them",
            pointer=f"/config{at}" if _stands(prepared.submit.config, at) else "/config",
            hint="Remove it, and every replica gets a seed of its own, derived from the root.",
        )


def _stands(config: Mapping[str, Any], at: str) -> bool:
    try:
        lookup(config, at)
    except LookupError:
        return False
    return True


def create(session: Session, group: PreparedGroup, request: SubmitRequest) -> tuple[Job, bool]:
    """Store a group and its jobs; return the first and whether it is new. The idempotency key is for all of them.

    Raises:
        Invalid: their base was deleted meanwhile, or their plan, which was only made now, forbids it.
    """
    if earlier := submission.find_repeated(session, request):
        return earlier, False
    first, errand = submission.planned(session, group.members[0])
    members = [replace(one, plan=first.plan) for one in group.members]
    jobs = [submission.new_job(one, replace(request, key=None)) for one in members]
    jobs[0].idempotency_key = request.key
    if earlier := submission.store(session, request, jobs[0]):
        return earlier, False
    row = Group(name=group.name, engine=first.engine.name, seed=group.root, size=len(jobs))
    session.add(row)
    session.flush()
    for number, job in enumerate(jobs, 1):
        job.group_id, job.replica = row.id, number
    session.add_all(jobs)
    session.flush()
    for job, one in zip(jobs, members, strict=True):
        submission.complete(session, job, one, errand)
    return jobs[0], True
