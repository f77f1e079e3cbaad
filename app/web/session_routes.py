"""Signing in and out, and the way in."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from app import auth
from app.db import WriteSession
from app.errors import AppError, Forbidden
from app.web.pages import LoginPage
from app.web.render import render

router = APIRouter(include_in_schema=False)


@router.get("/")
def home() -> Response:
    """Go to the jobs."""
    return RedirectResponse("/jobs", 303)


@router.get("/login")
def show_login(request: Request, session: WriteSession, code: str = "", next: str = "/jobs") -> Response:  # noqa: A002 - a query parameter's usual name
    """Sign in with a one-time code, or ask for a token."""
    if not code:
        return render(request, LoginPage(next=local_path(next)))
    try:
        token_id = auth.redeem_login_code(session, code)
    except AppError as error:
        return _refused(request, error, next)
    return _welcome(request, token_id, next)


@router.post("/login")
def log_in(
    request: Request,
    session: WriteSession,
    _: auth.CsrfChecked,
    token: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/jobs",  # noqa: A002 - a form field's usual name
) -> Response:
    """Sign in with a token."""
    try:
        _refuse_other_sites(request)
        token_id = auth.find_token(session, token.strip(), "user").id
    except AppError as error:
        return _refused(request, error, next)
    return _welcome(request, token_id, next)


@router.post("/logout")
def log_out(_: auth.CsrfChecked) -> Response:
    """End the session."""
    response = RedirectResponse("/login", 303)
    auth.sign_out(response)
    return response


def to_login(request: Request) -> Response:
    """Send somebody without a session to the login page, and back afterwards; an htmx request takes the whole page."""
    hx = request.headers.get("HX-Request") == "true"
    wanted = request.headers.get("HX-Current-URL", "/jobs") if hx else str(request.url)
    path = "/" + wanted.split("://", 1)[-1].partition("/")[2]
    address = f"/login?{urlencode({'next': local_path(path)})}"
    return Response(status_code=401, headers={"HX-Redirect": address}) if hx else RedirectResponse(address, 303)


def local_path(path: str) -> str:
    """Return a path of this server, whatever was asked for: a link must not send people elsewhere after signing in."""
    local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if local and "\\" not in path else "/jobs"


def _refuse_other_sites(request: Request) -> None:
    """Refuse a form on another site: it could sign somebody in as its own author."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("this came from another site", code="csrf", hint="Sign in on this page.")


def _welcome(request: Request, token_id: int, path: str) -> Response:
    response = RedirectResponse(local_path(path), 303)
    auth.sign_in(response, request, token_id)
    return response


def _refused(request: Request, error: AppError, path: str) -> Response:
    page = LoginPage(next=local_path(path), problem=error.problem.message, hint=error.problem.hint)
    return render(request, page, error.status)
