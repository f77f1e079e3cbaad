"""Where a job's config and weights came from, and what two jobs differ in."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.engines.documents import leaves
from app.inheritance import inheritance
from app.jobs import subjects
from app.tables import BaseModel, Dataset, Job, JobDataset
from app.wire.provenance import JobDiff, LeafDifference, Provenance
from app.wire.resolution import Origin, Resolution


def datasets_of(job: Job) -> Select[Dataset]:
    """Return the query for the dataset versions that a job reads."""
    return select(Dataset).join(JobDataset).where(JobDataset.job_id == job.id).order_by(Dataset.id)


def base_of(session: Session, job: Job) -> tuple[str | None, str | None]:
    """Return name and SHA-256 of the base model that a job starts from."""
    if job.base_model_id is None:
        return None, None
    row = session.get_one(BaseModel, job.base_model_id)
    return f"{row.name}@{row.version}", row.blob_sha256


def words(session: Session, job: Job) -> list[str]:
    """Return where the values of a job's config came from, in words."""
    resolution = Resolution(
        config=job.resolved,
        origins={at: Origin.model_validate(origin) for at, origin in job.origins.items()},
        digest=job.digest,
        seed=job.seed,
        seeds=job.seeds,
        total_steps=job.total_steps,
    )
    return inheritance(resolution, *base_of(session, job))


def provenance(session: Session, job: Job) -> Provenance:
    """Return where a job's config and weights came from."""
    base, base_sha256 = base_of(session, job)
    return Provenance.model_validate(
        {
            "job_id": job.id,
            "name": job.name,
            "engine": job.engine,
            "digest": job.digest,
            "seed": job.seed,
            "seeds": job.seeds,
            "datasets": {f"dataset:{row.name}@{row.version}": row.digest for row in session.scalars(datasets_of(job))},
            "models": subjects.views(session, job.id),
            "start": job.start,
            "base": base,
            "base_sha256": base_sha256,
            "config": job.resolved,
            "origins": job.origins,
            "inheritance": words(session, job),
            "plan": job.plan,
            "warnings": job.warnings,
        }
    )


def diff(left: Job, right: Job) -> JobDiff:
    """Return what the resolved configs of two jobs differ in."""
    differences = list(_differences(left, right))
    return JobDiff(
        left=left.id,
        right=right.id,
        same_training=left.digest == right.digest,
        values=[one for one, equal in differences if not equal],
        origins=[one for one, equal in differences if equal],
    )


def _differences(left: Job, right: Job) -> Iterator[tuple[LeafDifference, bool]]:
    """Yield each leaf that differs by value or by origin, and whether its values are equal. In the order of the configs."""
    ours, theirs = dict(leaves(left.resolved)), dict(leaves(right.resolved))
    for at in ours | theirs:
        mine, other = _origin(left, at), _origin(right, at)
        equal = at in ours and at in theirs and _equal(ours[at], theirs[at])
        if not equal or _kind(mine) != _kind(other):
            found = LeafDifference(
                pointer=at, left=ours.get(at), right=theirs.get(at), left_origin=mine, right_origin=other
            )
            yield found, equal


def _origin(job: Job, at: str) -> Origin | None:
    return Origin.model_validate(job.origins[at]) if at in job.origins else None


def _kind(origin: Origin | None) -> tuple[str | None, str | None]:
    """Return what makes two origins the same: what they lost against, and notes, do not count."""
    return (origin.origin, origin.source) if origin else (None, None)


def _equal(one: Any, other: Any) -> bool:
    """Return whether two values mean the same. 1 and 1.0 do, 1 and true do not."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
