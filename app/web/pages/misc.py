"""Workers, signing in, and errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from app.web.pages.base import Page
from app.wire.problems import ErrorBody
from app.wire.system import WorkerView


@dataclass(frozen=True)
class WorkersPage(Page):
    """The worker processes that have introduced themselves."""

    template: ClassVar[str] = "workers.html"
    section: ClassVar[str] = "workers"
    live: ClassVar[bool] = True

    workers: Sequence[WorkerView]
    """Workers, those that are alive first."""
    names: Mapping[int, str]
    """Names of the jobs that they run, by number."""

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return "Workers"


@dataclass(frozen=True)
class LoginPage(Page):
    """Signing in with a token."""

    template: ClassVar[str] = "login.html"

    next: str
    """Where to go afterwards: a path of this server."""
    problem: str | None = None
    """Why the last try failed."""
    hint: str | None = None
    """What to do about it."""

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return "Sign in"


@dataclass(frozen=True)
class ErrorPage(Page):
    """Something could not be done."""

    template: ClassVar[str] = "error.html"

    status: int
    """HTTP status."""
    error: ErrorBody
    """What went wrong, and what to do about it."""

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        return "Not found" if self.status == 404 else f"Error {self.status}"
