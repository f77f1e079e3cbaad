"""What a client reads about the service itself."""

from datetime import datetime
from typing import Any

from pydantic import Field

from app.wire.base import Message, View
from app.wire.metrics import MetricWords


class Health(View):
    """Whether the parts answer. Status 200 when all do, 503 otherwise."""

    ok: bool
    database: bool
    redis: bool


class Version(View):
    """What runs here."""

    version: str
    protocol: int
    engines: dict[str, str] = Field(description="Engine name to library version, as the server has it.")


class LoginLink(View):
    """A one-time link that signs a browser in."""

    code: str
    url: str
    expires_at: datetime


class TaskView(View):
    """A kind of job beside train."""

    kind: str
    title: str
    unit: str = Field(description="What one of its steps is: `frame`.")
    headline: list[str] = Field(description="Metric keys worth a column, most important first.")
    measures: bool = Field(
        default=False, description="Whether it tells errors on data: then trainings are tested by it (`test_on`)."
    )


class EngineView(View):
    """An engine that jobs can be submitted for."""

    name: str
    title: str
    library: str
    version: str
    document: str = Field(description="What a config is called as a file: `input.json`.")
    data: str = Field(description="What is accepted as data.")
    has_fitting: bool = Field(description="Whether `start.fitting` means anything for its models.")
    weights: str = Field(description="What is accepted as base models.")
    metrics: dict[str, MetricWords] = Field(description="Words by chart: `rmse_f` of `train/rmse_f` and `val/rmse_f`.")
    headline: list[str] = Field(description="Metric keys worth a column, most important first.")
    learning_curve_name: str
    tasks: list[TaskView] = Field(default=[], description="What it does beside training.")


class WorkerView(View):
    """A worker process."""

    id: str
    name: str
    host: str
    engines: dict[str, str]
    versions: dict[str, str] = {}
    gpus: list[dict[str, Any]] = []
    slots: int
    busy_slots: int
    drain: bool
    alive: bool = Field(description="Heard of within a lease, and not stopped.")
    stopped: bool = Field(
        default=False, description="It said so; otherwise one that is not alive is just not heard of."
    )
    jobs: list[int] = Field(default=[], description="Ids of the jobs it runs.")
    first_seen_at: datetime
    last_seen_at: datetime


class Drain(Message):
    """Whether a worker finishes what it has and takes nothing more."""

    drain: bool = True


class Whoami(View):
    """Whose token was sent."""

    name: str
