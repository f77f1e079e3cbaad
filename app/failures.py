"""The one place where errors become responses: one JSON shape, and never a traceback."""

import logging
import secrets
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.artifacts.errors import DiskFull
from app.db import READ_ONLY
from app.errors import AppError, Invalid, NotFound, Unavailable
from app.validation import problems_of
from app.wire.problems import ErrorBody, Problem

log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Make the application answer every error in the one shape."""
    app.add_exception_handler(Exception, handle)
    for kind in (
        AppError,
        HTTPException,
        RequestValidationError,
        DataError,
        OperationalError,
        NoConnectionFree,
        OverflowError,
        ClientDisconnect,
    ):
        app.add_exception_handler(kind, handle)


def handle(request: Request, error: Exception) -> Response:
    """Return the response to any error."""
    known = recognise(request, error)
    if known is None:
        incident = secrets.token_hex(4)
        log.error("incident %s at %s %s", incident, request.method, request.url.path, exc_info=error)
        body = ErrorBody(
            code="internal",
            message=f"something went wrong in the server (incident {incident})",
            hint="The server's log tells more under this incident; please report it with what you did.",
        )
        return answer(request, 500, body)
    return answer(request, known.status, known.body(), dict(getattr(error, "headers", None) or {}))


def recognise(request: Request, error: Exception) -> AppError | None:
    """Return what an error means to who asked; None when it is our own mistake."""
    if isinstance(error, AppError):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid(request, error)
    if isinstance(error, HTTPException):
        # FastAPI wraps whatever is raised while it reads a body.
        return error.__cause__ if isinstance(error.__cause__, AppError) else _by_status(request, error)
    # SQLite has no numbers above 64 bits, and says so in its own way.
    if isinstance(error, DataError) or (isinstance(error, OverflowError) and "SQLite" in str(error)):
        message = "something that was sent cannot be stored: a NUL character, or a number out of range"
        return Invalid([Problem(code="not-storable", message=message)])
    if isinstance(error, ClientDisconnect):
        return AppError("the connection was closed before the request was complete", code="disconnected")
    if isinstance(error, OperationalError) and _has_no_room(error):
        log.warning("the database's disk is full: %s", error.orig)
        return DiskFull("The database's disk is full: nothing was stored.", hint="Free space there, then try again.")
    if isinstance(error, OperationalError) and _takes_no_changes(error):
        log.warning("the database takes no changes: %s", error.orig)
        hint = "It may be a standby, or nearly full: its administrator knows. Try again later."
        return Unavailable("the database takes no changes just now", hint=hint)
    if isinstance(error, NoConnectionFree):
        log.warning("no connection to the database became free: %s", error)
        return Unavailable("the server has more to do than it can just now", hint="Try again in a few seconds.")
    # SQLite also says this of a table or column that a migration should have made: that is our own mistake.
    if isinstance(error, OperationalError) and "no such" not in str(error.orig):
        log.warning("the database is away: %s", error)
        return Unavailable("the database does not answer just now", hint="Try again in a few seconds.")
    return None


def _has_no_room(error: OperationalError) -> bool:
    """Tell whether the database could not write for lack of room: SQLITE_FULL, or PostgreSQL's class 53100."""
    return bool(_names(error) & {"SQLITE_FULL", "53100"})


def _takes_no_changes(error: OperationalError) -> bool:
    return READ_ONLY in _names(error) or any(name.startswith("SQLITE_READONLY") for name in _names(error))


def _names(error: OperationalError) -> set[str]:
    """Return what the database itself calls an error."""
    return {str(getattr(error.orig, name, None)) for name in ("sqlite_errorname", "sqlstate")}


def _invalid(request: Request, error: RequestValidationError) -> AppError:
    if any(item["loc"][0] == "path" for item in error.errors()):
        return NotFound(f"there is nothing at {request.url.path}")
    return Invalid(problems_of(error.errors()))


def _by_status(request: Request, error: HTTPException) -> AppError:
    phrase = HTTPStatus(error.status_code).phrase
    message = {
        404: f"there is nothing at {request.url.path}",
        405: f"{request.method} does not work at {request.url.path}",
        413: "the body is larger than this address accepts",
    }.get(error.status_code, str(error.detail))
    known = AppError(message, code=phrase.lower().replace(" ", "-"))
    known.status = error.status_code
    return known


def answer(request: Request, status: int, body: ErrorBody, headers: dict[str, str] | None = None) -> Response:
    """Return the response: JSON for programs and scripts; to a browser what the dashboard's `error_page` makes of it."""
    if status == 401:
        headers = {"WWW-Authenticate": "Bearer", **(headers or {})}
    page = getattr(request.app.state, "error_page", None)
    is_page = not request.url.path.startswith("/api/") and request.headers.get("accept") != "application/json"
    if page is not None and is_page:
        response: Response = page(request, status, body)
        return response
    return JSONResponse(body.model_dump(exclude_none=True), status_code=status, headers=headers)
