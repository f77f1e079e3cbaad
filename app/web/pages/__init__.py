"""What each page shows: one frozen dataclass per page is all that its template sees, besides the frame."""

from app.web.pages.base import Frame, Page
from app.web.pages.datasets import DatasetPage, DatasetsPage
from app.web.pages.job import JobConfigPage, JobHistoryPage, JobLogPage, JobOverviewPage
from app.web.pages.jobs import Filters, JobsPage, MetricColumn
from app.web.pages.misc import ErrorPage, LoginPage, WorkersPage
from app.web.pages.submit import SubmitPage

PAGES: tuple[type[Page], ...] = (
    JobsPage,
    JobOverviewPage,
    JobConfigPage,
    JobLogPage,
    JobHistoryPage,
    SubmitPage,
    DatasetsPage,
    DatasetPage,
    WorkersPage,
    LoginPage,
    ErrorPage,
)
"""Every page there is: the tests render each of them and check that each of their fields is documented."""

__all__ = [
    "PAGES",
    "DatasetPage",
    "DatasetsPage",
    "ErrorPage",
    "Filters",
    "Frame",
    "JobConfigPage",
    "JobHistoryPage",
    "JobLogPage",
    "JobOverviewPage",
    "JobsPage",
    "LoginPage",
    "MetricColumn",
    "Page",
    "SubmitPage",
    "WorkersPage",
]
