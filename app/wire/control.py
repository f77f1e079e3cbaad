"""What a client sends to have something done with a job that is there."""

from pydantic import Field

from app.wire.base import MAX_NAME, Message
from app.wire.submission import OnExisting


class Why(Message):
    """Why a job is paused or resumed, for its timeline."""

    reason: str | None = Field(default=None, max_length=500)


class Retry(Message):
    """How to retry a job."""

    force: bool = Field(default=False, description="Also when its configuration or its data were wrong.")


class JobChange(Message):
    """What may be changed of a job at any time; what is left out stays as it is."""

    name: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)
    priority: int | None = Field(default=None, ge=-100, le=100, description="Higher runs first.")
    tags: list[str] | None = Field(default=None, max_length=20, description="All of them: they replace those it has.")


class Extend(Message):
    """To how many steps a training is extended."""

    steps: int = Field(ge=1, description="Counted from its very beginning, so more than it has.")
    name: str | None = Field(default=None, min_length=1, max_length=MAX_NAME, description="Default: extension of NAME.")
    on_existing: OnExisting | None = Field(
        default=None, description="What to do when the same extension is here already; as in a submission."
    )
