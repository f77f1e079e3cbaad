"""The page on which a job is put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from app.web.pages.base import Page
from app.wire.datasets import DatasetView
from app.wire.submission import JobSubmit, StartMode
from app.wire.system import EngineView


@dataclass(frozen=True)
class Offer:
    """A base that the picker offers."""

    ref: str
    """As a submission names it: `water@3`, `job:17`."""
    words: str
    """What it is."""
    branches: Sequence[str] = ()
    """Names of its tasks, if it has several."""


@dataclass(frozen=True)
class SubmitPage(Page):
    """Editor, options, and the server's check while typing."""

    template: ClassVar[str] = "submit.html"
    section: ClassVar[str] = "submit"
    script: ClassVar[str] = "submit"

    engines: Sequence[EngineView]
    """Every engine there is."""
    datasets: Sequence[DatasetView]
    """Datasets to refer to, newest first."""
    bases: Sequence[Offer]
    """Models and jobs to start from, newest first."""
    examples: Mapping[str, Mapping[str, str]]
    """Configs to start from, as text, by engine and by what they are called."""
    longer: Mapping[str, str]
    """What makes a resumed training longer, as text, by engine."""
    config: str
    """Config to begin with: that of the job being copied, or nothing."""
    options: JobSubmit
    """Values of the options to begin with."""
    copied_from: int | None
    """Job whose submission this is a copy of."""

    modes: ClassVar[tuple[str, ...]] = get_args(StartMode)
    """Ways to start."""

    @property
    def data(self) -> dict[str, Any]:
        """Return what the page's script begins with."""
        return {
            "config": self.config,
            "examples": self.examples,
            "engines": {
                engine.name: {
                    "document": engine.document,
                    "longer": self.longer[engine.name],
                    "metric": engine.headline[0],
                    "fits": engine.has_fitting,
                    "tests": any(task.measures for task in engine.tasks),
                }
                for engine in self.engines
            },
            "bases": {offer.ref: {"words": offer.words, "branches": list(offer.branches)} for offer in self.bases},
            "branch": self.options.start.branch,
            "allow": self.options.start.allow,
            "testOn": self.options.test_on,
        }

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return "Submit a job"
