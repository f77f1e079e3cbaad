"""Jobs: what was submitted, what it resolved to, and where it stands."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, deferred, mapped_column, relationship

from app.tables.base import Base, BigId, Document, PlainDocument, now
from app.tables.blobs import Blob
from app.tables.datasets import Dataset


class Job(Base):
    """A job. `state`, `attempt` and `version` change together, in `jobs/transitions.py` only."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_queue", "state", "engine", "priority", "id"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(120), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    engine: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16))
    priority: Mapped[int] = mapped_column(default=0)
    tags: Mapped[list[str]] = mapped_column(Document, default=list)

    submitted: Mapped[dict[str, Any]] = mapped_column(PlainDocument)
    """The whole submission as sent: config, start, seed, …"""
    resolved: Mapped[dict[str, Any]] = mapped_column(PlainDocument)
    origins: Mapped[dict[str, Any]] = mapped_column(PlainDocument)
    warnings: Mapped[list[dict[str, Any]]] = mapped_column(PlainDocument, default=list)
    digest: Mapped[str] = mapped_column(String(64), index=True)
    """SHA-256 of resolved config and dataset digests: equal digests mean the same training."""
    seed: Mapped[int]
    seeds: Mapped[dict[str, int]] = mapped_column(PlainDocument)
    determinism: Mapped[str] = mapped_column(String(8))
    start: Mapped[dict[str, Any]] = mapped_column(PlainDocument, default=dict)
    """`Start` as submitted, its base with the version that was meant."""
    base_model_id: Mapped[int | None] = mapped_column(ForeignKey("base_models.id"), index=True)
    plan: Mapped[dict[str, Any] | None] = deferred(mapped_column(PlainDocument))
    """`TransferPlan`; None without a base, for start mode resume, and while the job is checking."""
    inventory_errand_id: Mapped[int | None] = mapped_column(ForeignKey("errands.id"), index=True)
    """The errand that a checking job waits for before its plan can be made."""
    start_step: Mapped[int] = mapped_column(BigInteger, default=0)
    """Step that its base has reached, in start mode resume: the training goes on from there. 0 in all others."""
    reproduces_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    """The job whose frozen spec this one runs again."""
    reproduction: Mapped[str | None] = mapped_column(String(16))
    """`Verdict` on it, once both have ended."""
    group_id: Mapped[int | None] = mapped_column(ForeignKey("groups.id"), index=True)
    replica: Mapped[int | None]
    """Its number in the group, from 1."""
    continues_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    """The interrupted twin from whose checkpoint this one goes on."""
    weight_check: Mapped[dict[str, Any] | None] = mapped_column(PlainDocument)
    """`WeightCheck`: what was found before training and decided."""
    file_stem: Mapped[str] = mapped_column(String(160))
    checkpoint_policy: Mapped[dict[str, Any]] = mapped_column(Document)
    gpus: Mapped[int] = mapped_column(default=1)
    """`Resources.gpus`: slots of one worker that it takes, with as many processes."""

    test_on: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    """Held-out data that its checkpoints are still to be measured on: the last once it has completed, others before."""
    test_at: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    """Steps whose checkpoints are measured on them, too."""
    test_every: Mapped[int | None] = mapped_column(BigInteger)
    """So are the checkpoints of the steps that this divides."""
    tested_until: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """Id of the newest checkpoint of which it is settled whether it is measured."""

    attempt: Mapped[int] = mapped_column(default=0)
    """Number of the newest attempt; the next claim makes attempt + 1."""
    forgiven: Mapped[int] = mapped_column(default=0)
    """Number of the newest attempt when somebody last resumed or retried the job: those up to it count no more."""
    step: Mapped[int] = mapped_column(BigInteger, default=0)
    total_steps: Mapped[int] = mapped_column(BigInteger)
    phase: Mapped[str | None] = mapped_column(String(64))
    steps_per_s: Mapped[float | None]
    latest: Mapped[dict[str, Any]] = mapped_column(Document, default=dict)
    stop_how: Mapped[str | None] = mapped_column(String(16))
    stop_reason: Mapped[str | None]
    stop_for: Mapped[str | None] = mapped_column(String(16))
    """Why a stopping job stops: cancel or pause."""
    cause: Mapped[dict[str, Any] | None] = mapped_column(Document)

    idempotency_key: Mapped[str | None] = mapped_column(String(255), unique=True)
    request_digest: Mapped[str | None] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(default=1)
    """Raised by every change a client can see: the ETag, and what the event stream watches."""
    not_before: Mapped[datetime | None]
    """A requeued job is not rung again before this time."""
    rung_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    queued_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now, index=True)

    datasets: Mapped[list[Dataset]] = relationship(secondary="job_datasets", viewonly=True)


class JobDataset(Base):
    """Which dataset versions a job reads: they cannot be deleted while it exists."""

    __tablename__ = "job_datasets"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), primary_key=True, index=True)


class JobModel(Base):
    """A model that a job of another kind than train works on: it is kept while the job exists."""

    __tablename__ = "job_models"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    """`job:17@4000` or `water@3`."""
    file_name: Mapped[str] = mapped_column(String(255))
    blob_sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    blob: Mapped[Blob] = relationship(lazy="joined")


class JobFile(Base):
    """A file that a job made beside its checkpoints."""

    __tablename__ = "job_files"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    media_type: Mapped[str] = mapped_column(String(120))
    blob_sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    blob: Mapped[Blob] = relationship(lazy="joined")
