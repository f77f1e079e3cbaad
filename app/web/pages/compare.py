"""Two jobs side by side: what differs in their configurations, and what each keeps of its base."""

from dataclasses import dataclass
from typing import ClassVar

from app.web.pages.base import Page
from app.wire.jobs import JobDetail, JobDiff


@dataclass(frozen=True)
class ComparePage(Page):
    """What two jobs differ in."""

    template: ClassVar[str] = "compare.html"
    section: ClassVar[str] = "jobs"

    left: JobDetail
    """The first job."""
    right: JobDetail
    """The second job."""
    diff: JobDiff
    """Values that differ, and equal values of different origin."""

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return f"job {self.left.id} and job {self.right.id}"

    @property
    def sides(self) -> tuple[JobDetail, JobDetail]:
        """Return both jobs, the first one left."""
        return self.left, self.right
