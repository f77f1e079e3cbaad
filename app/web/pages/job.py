"""The pages of one job: overview, configuration, transfer, log, history. They share their head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from app.engines import registry
from app.web.error_curves import ErrorCurve, curves
from app.web.pages.base import Control, Page
from app.web.parity import Plotted
from app.web.plan import Part
from app.web.seeds import GeneratorRow, SeedRow
from app.web.tree import Row
from app.wire.checkpoints import CheckpointView
from app.wire.jobs import Event, JobDetail
from app.wire.measuring import ErrorReport, Measured, ModelErrors, Quantity
from app.wire.relaxing import RelaxReport
from app.wire.states import FINAL_STATES

PAUSE = Control(
    "pause",
    "Pause",
    "It writes a checkpoint, frees its place and waits until it is resumed",
    "The job is asked to pause.",
)
RESUME = Control("resume", "Resume", "It is queued, and goes on from its newest checkpoint", "The job goes on.")
RETRY = Control("retry", "Retry", "It is queued again, and goes on from its newest checkpoint", "Queued again.")
RETRY_ANYWAY = Control(
    "retry",
    "Retry anyway",
    "Its configuration or data were wrong: unless something else has changed, it will fail again",
    "Queued again.",
    {"force": True},
)

ANEW = {
    "pause": "It frees its place and waits until it is resumed; then it begins again",
    "resume": "It is queued, and begins again",
    "retry": "It is queued again, and begins anew",
}
"""What controls of a job mean that has nothing to go on from."""


class Tab(NamedTuple):
    """One of a job's pages."""

    name: str
    text: str
    path: str
    """After the job's own."""


TABS = (
    Tab("overview", "Overview", ""),
    Tab("config", "Configuration", "/config"),
    Tab("transfer", "Transfer", "/transfer"),
    Tab("seeds", "Seeds", "/seeds"),
    Tab("log", "Log", "/log"),
    Tab("history", "History", "/history"),
)


@dataclass(frozen=True)
class JobFrame(Page):
    """What the head of each of a job's pages shows."""

    section: ClassVar[str] = "jobs"
    live: ClassVar[bool] = True
    tab: ClassVar[str]
    """Which of the job's pages this is."""

    job: JobDetail
    """The job."""
    version: int
    """Its version, so that the event stream does not begin with what this page shows already."""
    headline: Sequence[str]
    """Metric keys worth a place in the head, most important first."""
    summary: str | None
    """What came of reproducing another job, in a sentence; None without a verdict."""
    other_version: tuple[str, str, str] | None
    """The engine's library, its version when the job ran, and this server's, if these differ."""

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return f"{self.job.name} · job {self.job.id}"

    @property
    def job_id(self) -> int | None:
        """Return the job whose events this page follows."""
        return self.job.id

    @property
    def final(self) -> bool:
        """Return whether nothing will change any more."""
        return self.job.state in FINAL_STATES

    @property
    def tabs(self) -> Sequence[Tab]:
        """Return the job's pages that have something to show."""
        job = self.job
        nothing = {"transfer": job.kind != "train", "seeds": job.kind != "train" and not job.seeds}
        return [tab for tab in TABS if not nothing.get(tab.name)]

    @property
    def controls(self) -> Sequence[Control]:
        """Return what can be asked of the job in its state."""
        match self.job.state:
            case "checking" | "queued" | "running":
                return [self._meant(PAUSE)]
            case "paused":
                return [self._meant(RESUME)]
            case "failed" | "cancelled":
                hopeless = self.job.cause is not None and self.job.cause.failure in ("configuration", "data")
                return [RETRY_ANYWAY if hopeless else self._meant(RETRY)]
            case _:
                return []

    def _meant(self, control: Control) -> Control:
        """Return a control with what it means for this job."""
        return control if self.can_go_on else replace(control, title=ANEW[control.path])

    @property
    def can_extend(self) -> bool:
        """Return whether another job may train on from where this one ended."""
        return self.job.kind == "train" and self.job.progress.step > 0 and (self.final or self.job.state == "paused")

    @property
    def can_go_on(self) -> bool:
        """Return whether an execution that is stopped can leave something to go on from."""
        task = registry.task(self.job.engine, self.job.kind)
        return self.job.kind == "train" or bool(task and task.resumes)

    @property
    def commands(self) -> Sequence[tuple[str, str]]:
        """Return what to type for what, in a terminal."""
        number = self.job.id
        watch = () if self.final else (("Follow it", f"cairn watch {number}"),)
        return (
            *watch,
            ("Show it", f"cairn show {number}"),
            ("Read its log", f"cairn logs {number}"),
            ("Download checkpoint and curves", f"cairn download {number}")
            if self.job.kind == "train"
            else ("Download what it made", f"cairn download {number} files"),
            *((("Run it again, and compare", f"cairn reproduce {number} --follow"),) if self.job.attempt else ()),
        )


@dataclass(frozen=True)
class JobOverviewPage(JobFrame):
    """Charts, checkpoints, the end of the log, what happened lately."""

    template: ClassVar[str] = "job_overview.html"
    script: ClassVar[str] = "job"
    tab: ClassVar[str] = "overview"

    report: ErrorReport | None
    """The errors that it has measured; None when it measures none, or has not ended."""
    plots: Sequence[Plotted]
    """The parity plots of its models."""
    tests: Sequence[Measured]
    """What was measured of a training's checkpoints, newest first."""
    testable: bool
    """Whether it is a training whose checkpoints can be tested on data."""
    frozen: Sequence[Event]
    """What was told of each frozen model that the newest execution has made."""
    relaxed: RelaxReport | None
    """Where its structures went; None when it relaxes none, or has published nothing yet."""
    checkpoints: Sequence[CheckpointView]
    """Registered checkpoints, newest first."""
    events: Sequence[Event]
    """The newest events, newest first."""
    log: str
    """The last lines of the newest attempt's log."""
    log_size: int
    """How many bytes the log has: what comes later begins there."""
    board: Mapping[str, Any]
    """What the charts need to know: job, words for panels, whether the job has ended."""
    learning_curve: str
    """Name of the engine's own learning-curve file."""
    samples: Sequence[Event]
    """What the model wrote at validations, newest first."""
    exports: Mapping[str, str]
    """What files of role export are, by the ends of their names."""

    @property
    def curves(self) -> Sequence[ErrorCurve]:
        """Return how the errors of a training on held-out data changed, where several checkpoints were measured."""
        return curves(self.tests)

    @property
    def drawn_runs(self) -> Sequence[Mapping[str, Any]]:
        """Return where the view of the trajectory finds each run."""
        runs = self.relaxed.runs if self.relaxed else ()
        return [{"name": run.name, "first": run.first_frame, "frames": run.frames} for run in runs]

    def export_words(self, name: str) -> str:
        """Return what a file of role export is."""
        return next((words for end, words in self.exports.items() if name.endswith(end)), "For other programs")

    def shown(self, model: ModelErrors) -> Sequence[Quantity]:
        """Return the quantities that were measured of a model."""
        assert self.report is not None
        return [one for one in self.report.quantities if one.key in model.overall]

    def drawn(self, model: str) -> Plotted | None:
        """Return the plots of a model."""
        return next((one for one in self.plots if one.model == model), None)


@dataclass(frozen=True)
class JobConfigPage(JobFrame):
    """The resolved configuration with origins, and what was submitted."""

    template: ClassVar[str] = "job_config.html"
    script: ClassVar[str] = "config"
    live: ClassVar[bool] = False
    tab: ClassVar[str] = "config"

    rows: Sequence[Row]
    """The resolved configuration, a line per value."""
    counts: Mapping[str, int]
    """How many values have each origin."""


@dataclass(frozen=True)
class JobTransferPage(JobFrame):
    """What became of every tensor of the base."""

    template: ClassVar[str] = "job_transfer.html"
    tab: ClassVar[str] = "transfer"

    parts: Sequence[Part]
    """The transfer plan by component; empty without one."""


@dataclass(frozen=True)
class JobSeedsPage(JobFrame):
    """Every seed with what the audit found, and the states of the random generators at checkpoints."""

    template: ClassVar[str] = "job_seeds.html"
    tab: ClassVar[str] = "seeds"

    audit: Event | None
    """The newest seed audit, as it stands on the timeline; None before the first."""
    rows: Sequence[SeedRow]
    """Every seed."""
    logged: Sequence[GeneratorRow]
    """States of the generators by checkpoint, newest first."""
    generators: Sequence[str]
    """Names of the generators in that log."""


@dataclass(frozen=True)
class JobLogPage(JobFrame):
    """The end of the log, followed while it grows."""

    template: ClassVar[str] = "job_log.html"
    script: ClassVar[str] = "log"
    tab: ClassVar[str] = "log"

    text: str
    """The end of the newest attempt's log."""
    size: int
    """How many bytes the log has: what comes later begins there."""


@dataclass(frozen=True)
class JobHistoryPage(JobFrame):
    """What happened, attempt by attempt, and where."""

    template: ClassVar[str] = "job_history.html"
    tab: ClassVar[str] = "history"

    events: Sequence[Event]
    """All events, newest first."""
