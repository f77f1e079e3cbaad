"""Groups of replicas: the list, and one group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from app.web.pages.base import Control, Page
from app.wire.datasets import DatasetView
from app.wire.groups import GroupDetail, GroupView, Summary
from app.wire.metrics import name_of
from app.wire.states import FINAL_STATES

PAUSE_ALL = Control(
    "pause",
    "Pause all",
    "Each writes a checkpoint, frees its place and waits until it is resumed",
    "All are asked to pause.",
)
RESUME_ALL = Control("resume", "Resume all", "What is paused goes on from its newest checkpoint", "All go on.")


@dataclass(frozen=True)
class GroupsPage(Page):
    """The groups of this server."""

    template: ClassVar[str] = "groups.html"
    section: ClassVar[str] = "groups"
    live: ClassVar[bool] = True

    groups: Sequence[GroupView]
    """The groups of this page of the list, newest first."""
    older: str | None
    """Address of the next page, if there is one."""

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return "Groups"


@dataclass(frozen=True)
class ReplicasPage(Page):
    """One group: its replicas, their statistics, and what can be done with all of them."""

    template: ClassVar[str] = "group.html"
    section: ClassVar[str] = "groups"
    script: ClassVar[str] = "group"
    live: ClassVar[bool] = True

    group: GroupDetail
    """The group."""
    headline: Sequence[str]
    """Headline metrics of its engine, most important first."""
    datasets: Sequence[DatasetView]
    """Datasets on which its models can be compared, newest first."""
    offers: Sequence[tuple[str, str]]
    """Kinds of jobs on its models and data, with what they are called."""
    board: Mapping[str, Any]
    """What the charts need to know: group, replicas, words for panels, whether all have ended."""

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return f"{self.group.name} · group {self.group.id}"

    @property
    def summary(self) -> Sequence[Summary]:
        """Return the metrics that say how good a model is, the headline metrics first; rates and timings do not."""
        measured = [one for one in self.group.summary if not one.key.startswith("perf/") and name_of(one.key) != "lr"]
        order = {key: place for place, key in enumerate(self.headline)}
        return sorted(measured, key=lambda one: order.get(one.key, len(order)))

    @property
    def replicas(self) -> Mapping[int, int]:
        """Return the number of each replica by its job."""
        return {job.id: job.replica or place for place, job in enumerate(self.group.jobs, 1)}

    @property
    def controls(self) -> Sequence[Control]:
        """Return what can be asked of all replicas, while there is one that it would change."""
        states = set(self.group.states)
        wanted = ((PAUSE_ALL, {"checking", "queued", "running"}), (RESUME_ALL, {"paused"}))
        return [control for control, fitting in wanted if states & fitting]

    @property
    def final(self) -> bool:
        """Return whether nothing will change any more."""
        return set(self.group.states) <= FINAL_STATES

    @property
    def has_models(self) -> bool:
        """Return whether two replicas have got somewhere: fewer models disagree with nobody."""
        return sum(job.progress.step > 0 for job in self.group.jobs) >= 2
