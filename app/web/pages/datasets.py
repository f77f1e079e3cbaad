"""Datasets: the list with its upload form, and one version."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from app.web.histograms import Histogram
from app.web.pages.base import Page
from app.wire.datasets import DatasetListed, DatasetView
from app.wire.system import EngineView


@dataclass(frozen=True)
class DatasetsPage(Page):
    """The datasets of this server."""

    template: ClassVar[str] = "datasets.html"
    section: ClassVar[str] = "datasets"
    script: ClassVar[str] = "upload"

    datasets: Sequence[DatasetListed]
    """The versions of this page of the list, newest first."""
    engines: Sequence[EngineView]
    """Every engine there is."""
    older: str | None
    """Address of the next page, if there is one."""
    max_upload_bytes: int
    """Largest upload the server accepts."""
    forms: Sequence[str]
    """Forms of data that are read only where an upload asks for them."""
    commands: Sequence[str]
    """What one types to add a first dataset."""

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return "Datasets"


@dataclass(frozen=True)
class DatasetPage(Page):
    """One version of a dataset."""

    template: ClassVar[str] = "dataset.html"
    section: ClassVar[str] = "datasets"

    dataset: DatasetView
    """The version."""
    versions: Sequence[int]
    """All versions of that name, newest first."""
    relaxes: Sequence[tuple[str, str]]
    """Kinds of jobs that its structures can be given to, and what they are called."""
    histograms: Sequence[Histogram]
    """How energies, forces or lengths are distributed, where the summary says so."""

    @property
    def looked_at(self) -> int:
        """Return in how many frames distances were measured."""
        return sum(part.frames for part in self.dataset.summary.distances.values())

    @property
    def nearest(self) -> Sequence[tuple[str, float]]:
        """Return the smallest distance (Å) of each pair of elements, the nearest pair first."""
        found: dict[str, float] = {}
        for part in self.dataset.summary.distances.values():
            for pair, distance in part.nearest.items():
                found[pair] = min(distance, found.get(pair, distance))
        return sorted(found.items(), key=lambda item: item[1])

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return f"{self.dataset.name}@{self.dataset.version}"
