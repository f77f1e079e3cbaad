"""What all pages share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from app.web.bundle import Bundle


@dataclass(frozen=True)
class Page:
    """A page. Subclasses add what their template shows."""

    template: ClassVar[str]
    """File below `templates/`."""
    section: ClassVar[str] = ""
    """Which entry of the navigation is the current one."""
    script: ClassVar[str] = ""
    """Entry of the assets that this page needs besides `main`."""
    live: ClassVar[bool] = False
    """Whether the page follows the event stream."""

    @property
    def title(self) -> str:
        """Return what stands in the browser's tab."""
        raise NotImplementedError

    @property
    def job_id(self) -> int | None:
        """Return the job whose events this page follows; None: those of all."""
        return None


@dataclass(frozen=True)
class Control:
    """A button that asks the REST API to do something with what the page shows."""

    path: str
    """Below the address of the thing: `pause`."""
    text: str
    """What stands on it."""
    title: str
    """What it means."""
    said: str
    """What is said once it was done."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """What is sent along."""


@dataclass(frozen=True)
class Frame:
    """What the frame around every page needs."""

    bundle: Bundle
    """Addresses of scripts and styles."""
    csrf: str
    """Token that forms and requests send back; empty without a session."""
    nonce: str
    """Lets the style sheets through that the editor adds, and nothing else."""
    signed_in: bool
    """Whether there is a session to sign out of."""
    version: str
    """Version of the service."""
    address: str
    """Path and query of this page, for what refreshes it."""
