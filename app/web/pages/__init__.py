"""What each page shows: one frozen dataclass per page is all that its template sees, besides the frame."""

from app.web.pages.base import Control, Frame, Page
from app.web.pages.check import CheckPart
from app.web.pages.compare import ComparePage
from app.web.pages.datasets import DatasetPage, DatasetsPage
from app.web.pages.groups import GroupsPage, ReplicasPage
from app.web.pages.job import (
    JobConfigPage,
    JobHistoryPage,
    JobLogPage,
    JobOverviewPage,
    JobSeedsPage,
    JobTransferPage,
)
from app.web.pages.jobs import Filters, JobsPage, MetricColumn
from app.web.pages.misc import ErrorPage, LoginPage, WorkersPage
from app.web.pages.models import Architecture, ModelPage, ModelsPage
from app.web.pages.submit import Offer, SubmitPage

PAGES: tuple[type[Page], ...] = (
    JobsPage,
    JobOverviewPage,
    JobConfigPage,
    JobTransferPage,
    JobSeedsPage,
    JobLogPage,
    JobHistoryPage,
    ComparePage,
    GroupsPage,
    ReplicasPage,
    SubmitPage,
    DatasetsPage,
    DatasetPage,
    ModelsPage,
    ModelPage,
    WorkersPage,
    LoginPage,
    ErrorPage,
)
"""Every page there is: the tests render each of them and check that each of their fields is documented."""

PARTS: tuple[type[CheckPart], ...] = (CheckPart,)
"""What is rendered into a page that is open already; tested as pages are."""

__all__ = [
    "PAGES",
    "PARTS",
    "Architecture",
    "CheckPart",
    "ComparePage",
    "Control",
    "DatasetPage",
    "DatasetsPage",
    "ErrorPage",
    "Filters",
    "Frame",
    "GroupsPage",
    "JobConfigPage",
    "JobHistoryPage",
    "JobLogPage",
    "JobOverviewPage",
    "JobSeedsPage",
    "JobTransferPage",
    "JobsPage",
    "LoginPage",
    "MetricColumn",
    "ModelPage",
    "ModelsPage",
    "Offer",
    "Page",
    "ReplicasPage",
    "SubmitPage",
    "WorkersPage",
]
