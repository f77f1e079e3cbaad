"""Groups as clients read them, from the rows of their jobs alone: no config, no metric block is loaded."""

from collections import Counter
from collections.abc import Callable, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session, load_only

from app.engines import registry
from app.errors import Conflict, NotFound
from app.groups.statistics import summary
from app.jobs import service as jobs
from app.tables import Group, Job
from app.wire.groups import GroupActed, GroupDetail, GroupPage, GroupView, Summary

REPLICAS = Job.replica.is_not(None)
"""A group's trainings; other kinds of jobs on it have no number."""

TIMING = "perf/"
"""Head of the keys that are time on the wall, which tell nothing of what was learned."""


def get(session: Session, group_id: int) -> Group:
    """Return a group. Raises NotFound."""
    group = session.get(Group, group_id)
    if group is None:
        raise NotFound(f"there is no group {group_id}", hint="`cairn group ls` lists them.")
    return group


def etag(session: Session, group_id: int) -> str:
    """Return the entity tag of all that is told of a group: versions only grow, so their sum tells every change."""
    count, versions = session.execute(
        select(func.count(), func.coalesce(func.sum(Job.version), 0)).where(Job.group_id == group_id)
    ).one()
    return f'W/"group-{group_id}-{count}-{versions}"'


def listed(session: Session, *, cursor: str | None, limit: int) -> GroupPage:
    """Return one page of groups, newest first."""
    statement = select(Group)
    if cursor is not None:
        statement = statement.where(Group.id < jobs.read_cursor(cursor))
    rows = session.scalars(statement.order_by(Group.id.desc()).limit(limit + 1)).all()
    shown = rows[:limit]
    standing = _standing(session, [row.id for row in shown])
    return GroupPage(
        items=[GroupView.model_validate(_fields(row, standing[row.id])) for row in shown],
        next_cursor=jobs.cursor_after(shown[-1].id) if len(rows) > limit else None,
    )


def _standing(session: Session, group_ids: Sequence[int]) -> dict[int, list[Job]]:
    """Return the trainings of groups, with no more of them than where they stand."""
    columns = load_only(Job.id, Job.group_id, Job.state, Job.step, Job.total_steps)
    query = select(Job).options(columns).where(Job.group_id.in_(group_ids), REPLICAS)
    found: dict[int, list[Job]] = {group_id: [] for group_id in group_ids}
    for job in session.scalars(query):
        assert job.group_id is not None
        found[job.group_id].append(job)
    return found


def _fields(row: Group, replicas: Sequence[Job]) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.name,
        "engine": row.engine,
        "seed": row.seed,
        "size": row.size,
        "created_at": row.created_at,
        "states": Counter(job.state for job in replicas),
        "step": min(job.step for job in replicas),
        "total_steps": max(job.total_steps for job in replicas),
    }


def detail(session: Session, group: Group) -> GroupDetail:
    """Return a group as its own page shows it, in one query."""
    query = select(Job).options(load_only(*jobs.LISTED)).where(Job.group_id == group.id)
    members = session.scalars(query.order_by(Job.replica, Job.id.desc())).all()
    replicas = [job for job in members if job.replica is not None]
    return GroupDetail.model_validate(
        _fields(group, replicas)
        | {
            "jobs": [jobs.view(job) for job in replicas],
            "summary": summaries(replicas),
            "tasks": [jobs.view(job) for job in members if job.replica is None],
        }
    )


def summaries(replicas: Sequence[Job]) -> list[Summary]:
    """Return the statistics of each metric's newest values, by key."""
    keys = sorted({key for job in replicas for key in job.latest if not key.startswith(TIMING)})
    return [
        summary(
            key,
            {job.id: job.latest[key] for job in replicas if key in job.latest},
            registry.unit(replicas[0].engine, key),
        )
        for key in keys
    ]


def replica_ids(session: Session, group: Group) -> list[int]:
    """Return the numbers of a group's trainings, in the order of the replicas."""
    return list(session.scalars(select(Job.id).where(Job.group_id == group.id, REPLICAS).order_by(Job.replica)))


def act(session: Session, group: Group, transition: Callable[[int], None]) -> GroupActed:
    """Do something to every replica of a group: to each by itself, so that one that cannot keeps no other from it."""
    query = select(Job.id, Job.version).where(Job.group_id == group.id, REPLICAS).order_by(Job.id)
    before = session.execute(query.with_for_update()).all()
    done = GroupActed(changed=[], unchanged={})
    for job_id, version in before:
        try:
            transition(job_id)
        except Conflict as error:
            done.unchanged[job_id] = error.problem.message
            continue
        now = session.execute(select(Job.version, Job.state).where(Job.id == job_id)).one()
        if now.version == version:
            done.unchanged[job_id] = f"job {job_id} is {now.state} already"
        else:
            done.changed.append(job_id)
    return done
