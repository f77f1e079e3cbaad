"""Errors that know their HTTP status and their one JSON shape."""

from collections.abc import Sequence

from app.wire.problems import ErrorBody, Problem


class AppError(Exception):
    """Something a person or a worker did that cannot be done. `main` turns it into a response; nothing else does."""

    status = 400
    code = "bad-request"

    def __init__(
        self, message: str, *, code: str | None = None, pointer: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.problem = Problem(code=code or self.code, message=message, pointer=pointer, hint=hint)

    def body(self) -> ErrorBody:
        """Return what the client reads."""
        return ErrorBody(**self.problem.model_dump())


class Unauthorized(AppError):
    """No token, or one that is not known."""

    status = 401
    code = "unauthorized"


class Forbidden(AppError):
    """A known token that may not do this."""

    status = 403
    code = "forbidden"


class NotFound(AppError):
    """The thing named does not exist."""

    status = 404
    code = "not-found"


class Conflict(AppError):
    """The thing is in a state that does not allow this."""

    status = 409
    code = "conflict"


class Outdated(AppError):
    """`If-Match` names a version of the thing that is not the present one."""

    status = 412
    code = "changed-meanwhile"


class TooLarge(AppError):
    """An upload over the configured limit."""

    status = 413
    code = "too-large"


class Invalid(AppError):
    """What was sent is well-formed but wrong. Carries every problem found, not only the first."""

    status = 422
    code = "invalid"

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems, "an Invalid error needs at least one problem"
        first = problems[0]
        super().__init__(first.message, code=first.code, pointer=first.pointer, hint=first.hint)
        self.problems = list(problems)

    def body(self) -> ErrorBody:
        """Return the first problem with all of them listed."""
        return ErrorBody(**self.problem.model_dump(), problems=self.problems)


class Unavailable(AppError):
    """A part that is needed does not answer just now."""

    status = 503
    code = "unavailable"
