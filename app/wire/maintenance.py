"""What a client reads of work on the store as a whole: removing what nothing needs, and verifying what is there."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.wire.base import Message, View


class Gc(Message):
    """How to remove what nothing needs."""

    dry_run: bool = False


class Removed(View):
    """How much of one kind was removed, or would be."""

    count: int = 0
    size: int = Field(default=0, description="Bytes.")


class GcReport(View):
    """What was removed because nothing needs it, or would be, with `dry_run`."""

    dry_run: bool
    unknown: Removed = Field(description="Files of the store that the database does not know, older than a day.")
    unused: Removed = Field(description="Files of the store that nothing refers to any more, older than a day.")
    artifacts: Removed = Field(
        description="Statistics older than 30 days that no job of these days uses: they are computed again when needed."
    )
    leftovers: Removed = Field(description="Interrupted uploads older than a day.")
    quarantined: Removed = Field(description="Damaged files that are kept aside. Never removed: that is for you to do.")

    @property
    def size(self) -> int:
        """Bytes that were freed, or would be."""
        return self.unknown.size + self.unused.size + self.leftovers.size


class Verify(Message):
    """How to verify the store."""

    quick: bool = Field(default=False, description="Only whether every file is there with its size; nothing is hashed.")


class BlobUse(View):
    """One thing that a stored file is used for."""

    words: str = Field(description="`checkpoint step 4000 of job 17`, `dataset water@3`, …")
    job: int | None = Field(default=None, description="The job that it belongs to.")


class DamagedBlob(View):
    """A stored file that is missing or is not what it was."""

    sha256: str
    size: int
    problem: str = Field(description="`missing`, `sha256 differs`, `12 bytes instead of 40`.")
    uses: list[BlobUse] = []
    found_at: datetime | None = Field(default=None, description="When its damage was found first.")


VerificationState = Literal["running", "done", "failed"]


class VerificationView(View):
    """A run through the store: its progress while it goes on, its report afterwards."""

    id: int
    state: VerificationState
    quick: bool
    checked_blobs: int
    total_blobs: int
    checked_bytes: int
    total_bytes: int
    damaged: list[DamagedBlob] = []
    healed: list[DamagedBlob] = Field(default=[], description="Known as damaged until now, and good again.")
    problem: str | None = Field(default=None, description="Why it did not get to its end.")
    started_at: datetime
    ended_at: datetime | None = None
