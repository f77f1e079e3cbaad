"""The one JSON shape of every error."""

from typing import Literal

from pydantic import Field

from app.wire.base import View


class Problem(View):
    """One thing that is wrong: what, where (a JSON pointer into what was sent) and what to do about it."""

    code: str
    message: str
    pointer: str | None = None
    hint: str | None = None
    allow: list[str] | None = Field(
        default=None, description="Config keys: a submission that names them in `start.allow` has this problem no more."
    )


class Notice(Problem):
    """Something that does not stop a job but that its owner should know."""

    severity: Literal["warning"] = "warning"


class ErrorBody(Problem):
    """The body of every response with status 4xx or 5xx.

    The first problem stands at the top level, so that a client which shows one message shows a good one; when
    there are several, all of them (the first included) are in `problems`.
    """

    problems: list[Problem] = []
