"""What a client reads about metrics."""

from typing import Literal

from pydantic import Field

from app.wire.base import View


class MetricWords(View):
    """What a metric is called and measured in."""

    title: str
    unit: str = ""
    short: str = Field(default="", description="What it is called in a narrow column, where that is something else.")
    scale: Literal["log", "linear"] = Field(
        default="log", description="How its chart begins: losses fall over decades."
    )
    charted: bool = Field(default=True, description="False: it says how far a job is, and a chart of it would not.")


class MetricSeries(View):
    """Answer of the metrics route in JSON: one list per key, aligned with `steps[key]`. Null stands for NaN or infinity."""

    steps: dict[str, list[int]]
    values: dict[str, list[float | None]]
    non_finite: dict[str, list[tuple[int, Literal["nan", "inf", "-inf"]]]] = Field(
        default={}, description="What each null was, by step."
    )


class MetricKey(View):
    """What was measured under one key."""

    key: str
    count: int
    first_step: int
    last_step: int
    last: float | None = Field(description="Newest value; null stands for NaN or infinity.")


class MetricKeys(View):
    """Answer of the route that lists metric keys, sorted."""

    keys: list[MetricKey]


def name_of(key: str) -> str:
    """Return a metric's own name: `train/rmse_f/water` is `rmse_f`."""
    parts = key.split("/")
    return parts[1] if len(parts) > 1 else key


def panel_of(key: str) -> str:
    """Return the chart a metric belongs to, by the rule of `charts/series.ts`: `devi/max_f` stands in `devi/f`."""
    if key.startswith("devi/"):
        return f"devi/{name_of(key).rpartition('_')[2]}"
    return f"perf/{name_of(key)}" if key.startswith("perf/") else name_of(key)
