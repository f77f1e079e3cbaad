"""What an execution begins with: the job's own newest checkpoint, else its base, else nothing."""

from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from app.artifacts.store import BlobStore
from app.jobs import checkpoints, intact, tasks
from app.jobs.exactness import Begin
from app.tables import BaseModel, Checkpoint, Job
from app.wire.checkpoints import CheckpointFile
from app.wire.submission import Start
from app.wire.transfer import TransferPlan
from app.wire.worker import BaseGrant, CheckpointGrant


@dataclass(frozen=True)
class Beginning:
    """What the execution is given, the step it goes on from, and both in words."""

    step: int = 0
    words: str = "from the start"
    checkpoint: CheckpointGrant | None = None
    base: BaseGrant | None = None
    plan: TransferPlan | None = None
    warning: str | None = None
    """Which newer checkpoints could not be used, and what is wrong with them."""
    damaged: frozenset[str] = frozenset()
    """Digests of their files that are missing or changed."""
    kind: Begin = "scratch"


def find(session: Session, store: BlobStore, job_id: int) -> Beginning:
    """Return what the next execution of a job begins with. Looking for its checkpoint may hash files."""
    search = intact.newest_good(session, store, job_id)
    return replace(_begin(session, job_id, search.good), warning=search.warning, damaged=search.damaged)


def _begin(session: Session, job_id: int, own: Checkpoint | None) -> Beginning:
    job = session.get(Job, job_id)
    if own is not None and job is not None:
        grant = CheckpointGrant(step=own.step, files=checkpoints.file_views(own))
        return Beginning(own.step, f"from the checkpoint of {tasks.unit(job)} {own.step}", grant, kind="checkpoint")
    if job is None or job.base_model_id is None:
        return Beginning()
    return _from_base(job, session.get_one(BaseModel, job.base_model_id))


def _from_base(job: Job, base: BaseModel) -> Beginning:
    name = f"{base.name}@{base.version}"
    if Start.model_validate(job.start).mode == "resume":
        file = CheckpointFile(
            name=base.file_name, role="checkpoint", sha256=base.blob_sha256, md5=base.blob.md5, size=base.size
        )
        grant = CheckpointGrant(step=job.start_step, files=[file])
        return Beginning(job.start_step, f"from step {job.start_step} of {name}", grant, kind="weights")
    plan = TransferPlan.model_validate(job.plan) if job.plan is not None else None
    granted = BaseGrant(name=name, file_name=base.file_name, sha256=base.blob_sha256, size=base.size)
    return Beginning(0, f"from the base {name}", None, granted, plan, kind="base")
