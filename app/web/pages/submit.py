"""The page on which a job is put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from app.web.pages.base import Page
from app.wire.datasets import DatasetView
from app.wire.jobs import JobSubmit


@dataclass(frozen=True)
class SubmitPage(Page):
    """Editor, options, and the server's check while typing."""

    template: ClassVar[str] = "submit.html"
    section: ClassVar[str] = "submit"
    script: ClassVar[str] = "submit"

    engines: Sequence[tuple[str, str]]
    """Name and title of every engine."""
    datasets: Sequence[DatasetView]
    """Datasets to refer to, newest first."""
    examples: Mapping[str, str]
    """Configs to start from, as text, by what they are called."""
    config: str
    """Config to begin with: that of the job being copied, or nothing."""
    options: JobSubmit
    """Values of the options to begin with."""
    copied_from: int | None
    """Job whose submission this is a copy of."""

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return "Submit a job"
