"""The tables, one file each. Importing this package loads them all, so that the metadata is complete."""

from app.tables.artifacts import Artifact
from app.tables.attempts import Attempt
from app.tables.base import Base
from app.tables.blobs import Blob
from app.tables.checkpoints import Checkpoint, CheckpointFile
from app.tables.datasets import Dataset, DatasetName
from app.tables.errands import Errand
from app.tables.events import Event
from app.tables.groups import Group
from app.tables.jobs import Job, JobDataset, JobFile, JobModel
from app.tables.leaves import JobLeaf
from app.tables.logs import LogChunk
from app.tables.metrics import MetricBlock, MetricChunk
from app.tables.models import BaseModel, BaseModelName
from app.tables.tokens import LoginCode, Token
from app.tables.verifications import Verification
from app.tables.workers import Worker

__all__ = [
    "Artifact",
    "Attempt",
    "Base",
    "BaseModel",
    "BaseModelName",
    "Blob",
    "Checkpoint",
    "CheckpointFile",
    "Dataset",
    "DatasetName",
    "Errand",
    "Event",
    "Group",
    "Job",
    "JobDataset",
    "JobFile",
    "JobLeaf",
    "JobModel",
    "LogChunk",
    "LoginCode",
    "MetricBlock",
    "MetricChunk",
    "Token",
    "Verification",
    "Worker",
]
