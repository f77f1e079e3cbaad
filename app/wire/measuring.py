"""What a job that measures models on data tells: their errors on all of it, by system, by element, and the worst frames."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from app.wire.base import Message, View
from app.wire.states import JobState

Errors = dict[str, float | None]
"""By the key of a quantity; null stands for NaN or infinity."""


class Quantity(View):
    """One error that is measured: a column of the tables."""

    key: str = Field(description="The engine's own name: `rmse_f`.")
    title: str
    unit: str = ""
    headline: bool = Field(default=False, description="One of the few that are shown where there is no room for all.")


class ErrorRow(View):
    """The errors on one system, or of one element's atoms."""

    name: str
    frames: int | None = None
    atoms: int = Field(description="Of a frame of the system; of an element all that were looked at.")
    errors: Errors


class WorstFrame(View):
    """One of the frames with the largest errors, in the order of the file that holds them."""

    system: str
    frame: int = Field(description="Its number in the system, from 0.")
    atoms: int
    by: list[str] = Field(description="Among the worst of what it is: `force`, `energy`.")
    energy_error_per_atom: float | None = Field(default=None, description="In eV.")
    force_rmse: float | None = Field(default=None, description="In eV/Å.")
    largest_force_error: float | None = Field(default=None, description="Length of an atom's, in eV/Å.")
    atom: int | None = Field(default=None, description="Which atom that is, from 0.")
    element: str | None = None


class ModelErrors(View):
    """All that was measured of one model."""

    model: str = Field(description="`job:17@4000` or `water@3`.")
    sha256: str
    overall: Errors
    systems: list[ErrorRow] = []
    elements: list[ErrorRow] = []
    worst: list[WorstFrame] = []
    worst_file: str | None = None


class ErrorReport(View):
    """The file that such a job leaves (`Task.report`)."""

    library: str
    data: list[str]
    quantities: list[Quantity]
    models: list[ModelErrors]
    plots_file: str | None = Field(default=None, description="Where `ErrorPlots` are.")


class ErrorHistogram(View):
    """How often errors of each size occur: equally wide bins from minus to plus `half`, the outermost with all beyond."""

    half: float
    counts: list[int]


class ParityPlot(View):
    """Labels against predictions of one quantity."""

    title: str
    unit: str
    count: int = Field(description="Numbers that were compared.")
    not_finite: int = Field(default=0, description="Those of them that are in no plot.")
    points: list[tuple[float, float, int]] = Field(
        description="Label, prediction, and how many lie in the same cell of a grid: one point a cell."
    )
    histogram: ErrorHistogram


class ModelPlots(View):
    """The plots of one model."""

    model: str
    plots: list[ParityPlot]


class ErrorPlots(View):
    """The file with the plots of a report."""

    models: list[ModelPlots]


class Measured(View):
    """One model of a training, measured on held-out data by a job of its own."""

    job: int = Field(description="The job that measured.")
    name: str
    state: JobState
    step: int = Field(description="Of the training: which checkpoint it was.")
    head: str | None = Field(default=None, description="Of a training of several tasks: which of them.")
    data: list[str]
    data_digest: str = Field(description="SHA-256 of the data's content and of how much of it: equal for equal data.")
    ended_at: datetime | None = None
    quantities: list[Quantity] = []
    errors: Errors = Field(default={}, description="On all data; empty until it has completed.")


class MeasuredPair(View):
    """Two trainings on the same held-out data: of each the newest checkpoint that was measured, or both of one step."""

    left: Measured
    right: Measured


class MeasureOn(Message):
    """On which data a training's checkpoints are measured by themselves: the last once it has completed; none: not at all."""

    data: list[str] = Field(
        max_length=20,
        description="`dataset:NAME[@VERSION][/SYSTEM]`, of a training of several tasks `TASK=dataset:…`: a job each.",
    )
    at: list[Annotated[int, Field(ge=1, lt=2**63)]] = Field(
        default=[], max_length=100, description="Steps whose checkpoints are measured, too: now those that are there."
    )
    every: int | None = Field(
        default=None, ge=1, lt=2**63, description="So are the checkpoints of the steps that this divides."
    )
