"""Every route of the dashboard, and the page that errors become."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.web import (
    bundle,
    comparison_routes,
    data_routes,
    groups_routes,
    jobs_routes,
    models_routes,
    session_routes,
    submit_routes,
)
from app.web.pages import ErrorPage
from app.web.render import render
from app.wire.problems import ErrorBody

router = APIRouter()
for part in (
    bundle.router,
    session_routes.router,
    jobs_routes.router,
    groups_routes.router,
    comparison_routes.router,
    data_routes.router,
    models_routes.router,
    submit_routes.router,
):
    router.include_router(part)


def error_page(request: Request, status: int, error: ErrorBody) -> Response:
    """Return the page of an error; somebody who is not signed in is asked to."""
    if status == 401 and request.method == "GET":
        return session_routes.to_login(request)
    return render(request, ErrorPage(status=status, error=error), status)
