"""The list of jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlencode

from app.web.pages.base import Page
from app.wire.jobs import JobView
from app.wire.problems import Problem


@dataclass(frozen=True)
class Filters:
    """What the list is narrowed down to."""

    q: str = ""
    """Words in the name."""
    states: tuple[str, ...] = ()
    """States to show; none: all."""
    tag: str = ""
    """A tag that the jobs carry."""
    where: str = ""
    """Conditions on values of the resolved config and their origins: `descriptor.rcut explicit > 6`."""

    @property
    def active(self) -> bool:
        """Return whether anything is filtered out."""
        return bool(self.q or self.states or self.tag or self.where)

    def url(self, **more: str | None) -> str:
        """Return the address of the list with these filters, and whatever else is wanted."""
        own = [("q", self.q), *(("state", state) for state in self.states), ("tag", self.tag), ("where", self.where)]
        pairs = [*own, *more.items()]
        query = urlencode([(key, value) for key, value in pairs if value])
        return f"/jobs?{query}" if query else "/jobs"


@dataclass(frozen=True)
class MetricColumn:
    """One metric as a column of the list."""

    key: str
    """Metric key, as in `Progress.latest`."""
    title: str
    """Heading."""
    unit: str
    """Unit, shown with the heading."""


@dataclass(frozen=True)
class JobsPage(Page):
    """The list of jobs, newest first."""

    template: ClassVar[str] = "jobs.html"
    section: ClassVar[str] = "jobs"
    script: ClassVar[str] = "jobs"
    live: ClassVar[bool] = True

    jobs: Sequence[JobView]
    """The jobs of this page of the list."""
    summaries: Mapping[int, str]
    """What came of reproductions, in a sentence, by job."""
    filters: Filters
    """What the list is narrowed down to."""
    problems: Sequence[Problem]
    """What is wrong with the search; the list then shows nothing."""
    columns: Sequence[MetricColumn]
    """Headline metrics of the engines of these jobs."""
    states: Sequence[str]
    """States one can filter by."""
    older: str | None
    """Address of the next page, if there is one."""
    first_page: bool
    """Whether this is the newest part of the list."""
    server: str
    """Address of this server, for the commands shown to newcomers."""
    commands: Sequence[str]
    """What one types to add data, for each engine."""

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return "Jobs"
