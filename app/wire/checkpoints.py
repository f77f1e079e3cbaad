"""What a client reads about checkpoints."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.wire.base import Md5, Sha256, View


class CheckpointFile(View):
    """One file of a checkpoint."""

    name: str
    role: Literal["checkpoint", "state", "export"] = Field(
        description="checkpoint: the engine's own file, which a training goes on from. export: its weights for other programs. "
        "state: what beside it, or in a job that trains nothing alone, is needed to go on."
    )
    sha256: Sha256
    md5: Md5
    size: int


class CheckpointView(View):
    """A registered checkpoint: the server has re-hashed every file."""

    id: int
    job_id: int
    attempt: int
    step: int
    created_at: datetime
    files: list[CheckpointFile]
    metrics: dict[str, float | None] = {}
    fingerprint: str | None = Field(
        default=None,
        description="SHA-256 over every tensor's name, dtype, shape and bytes; of a job that trains nothing over its state.",
    )
    kept: list[str] = Field(
        default=[], description="Why retention keeps it: `newest`, `best val/rmse_f`, `every 1000`, `base water@3`."
    )
