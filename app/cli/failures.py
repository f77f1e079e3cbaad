"""What can go wrong on the client's side, and which exit code it has."""

from collections.abc import Sequence
from typing import NamedTuple

from app.cli.places import Document

FAILED = 1
"""What was asked for did not work out: a refused config, a failed job, a file whose digest is wrong."""
USAGE = 2
"""The command line itself is wrong, or names a file that is not there."""
UNREACHABLE = 3
"""No server answers."""
DENIED = 4
"""The server wants another token."""
UNDECIDED = 5
"""Two compared runs are equal as far as both go, but one goes on or ended earlier; or they have nothing in common."""
INTERRUPTED = 130
"""Ctrl-C."""


class Fault(NamedTuple):
    """One thing that is wrong, as the server's error bodies say it."""

    code: str
    message: str
    pointer: str | None = None
    hint: str | None = None


class Failure(Exception):
    """Ends the command with a message for a person and an exit code for a script."""

    def __init__(
        self, message: str, *, code: str, pointer: str | None = None, hint: str | None = None, exit_code: int = FAILED
    ) -> None:
        super().__init__(message)
        self.faults: Sequence[Fault] = [Fault(code, message, pointer, hint)]
        self.exit_code = exit_code
        self.document: Document | None = None
        """The file that the pointers point into, when there is one."""

    @property
    def code(self) -> str:
        """The code of the first fault."""
        return self.faults[0].code

    @classmethod
    def of(cls, faults: Sequence[Fault], exit_code: int) -> "Failure":
        """Return a failure that reports several faults at once."""
        first = faults[0]
        failure = cls(first.message, code=first.code, pointer=first.pointer, hint=first.hint, exit_code=exit_code)
        failure.faults = list(faults)
        return failure


def usage(message: str, *, code: str = "usage", hint: str | None = None) -> Failure:
    """Return the failure of a command line that cannot be understood."""
    return Failure(message, code=code, hint=hint, exit_code=USAGE)
