"""What the intake process is asked, what it answers, and how it collects everything that is wrong."""

from pathlib import Path
from typing import Literal, Protocol

from app.wire.base import Message
from app.wire.datasets import DatasetSummary
from app.wire.problems import Problem

MAX_PROBLEMS = 50
"""Problems listed at most: who has more than these has one mistake repeated."""

ARCHIVE_NAME = "dataset.tar"
OUTCOME_NAME = "outcome.json"


class Order(Message):
    """One intake: where the data is and how far it may go."""

    source: Path
    kind: Literal["file", "directory"]
    file_name: str
    work: Path
    roots: list[Path] = []
    take_in: str
    """The engine's function, `"app.engines.deepmd.intake:take_in"`: order and report in, outcome out."""
    remedy: str
    """What the engine says to do about data that are too much, or too odd, for its readers."""
    type_map: list[str] | None = None
    form: str = ""
    """One of the engine's `DataWords.asked_for`; empty: what it reads without being asked."""
    max_bytes: int
    max_members: int
    memory_bytes: int
    cpu_s: int


class Outcome(Message):
    """What came of it: problems, or a dataset whose archive lies in the work directory."""

    problems: list[Problem] = []
    warnings: list[str] = []
    digest: str = ""
    summary: DatasetSummary | None = None


class Refused(Exception):
    """The intake cannot go on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def refuse(code: str, message: str, hint: str | None = None) -> Refused:
    """Return the exception that ends an intake with one problem."""
    return Refused(Problem(code=code, message=message, hint=hint))


class Report:
    """Problems and warnings as they are found."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self._left_out = 0

    def problem(self, code: str, message: str, hint: str | None = None) -> None:
        """Note something that is wrong."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(code=code, message=message, hint=hint))
        else:
            self._left_out += 1

    def warn(self, message: str) -> None:
        """Note something that the owner should know."""
        if message not in self.warnings and len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(message)

    def stop_if_wrong(self) -> None:
        """End the intake when anything is wrong."""
        if self._left_out:
            self.problems[-1] = Problem(
                code="more-problems", message=f"… and {self._left_out + 1} more problems of the same data."
            )
        if self.problems:
            raise Refused(self.problems[0])


class TakeIn(Protocol):
    """What an engine does with data that were sent: read them below `order.work`, check them completely, pack them."""

    def __call__(self, order: Order, report: Report, /) -> Outcome:
        """Leave `ARCHIVE_NAME` in the work directory and return its digest and summary.

        Raises Refused; what is wrong and what is to be known is in the report. Warnings of the outcome are the report's.
        """
