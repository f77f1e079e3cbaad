"""From a page to a response: templates, security headers, and what to say before the assets are built."""

import secrets
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app import auth
from app.web import bundle, formats, words
from app.web.pages.base import Frame, Page
from app.web.pages.check import CheckPart

TEMPLATES = Path(__file__).parent / "templates"


@lru_cache
def environment() -> Environment:
    """Return the templates' environment: everything is escaped, and a name nobody defined is an error."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.policies["json.dumps_kwargs"] = {}  # unsorted: charts come in the order of their words
    env.filters.update(formats.FILTERS)
    env.globals["words"] = words
    return env


def render(request: Request, page: Page, status: int = 200) -> HTMLResponse:
    """Return a page as a response."""
    built = bundle.read()
    nonce = secrets.token_urlsafe(16)
    if built is None:
        html = environment().get_template("unbuilt.html").render(how=bundle.HOW_TO_BUILD)
        return HTMLResponse(html, 503, headers=headers(nonce))
    frame = Frame(
        bundle=built,
        csrf=auth.csrf_token(request),
        nonce=nonce,
        signed_in=auth.SESSION_COOKIE in request.cookies,
        version=version("cairn"),
        address=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
    )
    html = environment().get_template(page.template).render(page=page, frame=frame)
    return HTMLResponse(html, status, headers=headers(nonce))


def rendered(part: CheckPart) -> str:
    """Return the HTML of what goes into a page that is open already."""
    return environment().get_template(part.template).render(part=part)


def headers(nonce: str) -> dict[str, str]:
    """Return the headers of every page: nothing from elsewhere, no inline script, no framing, no copy in caches.

    The nonce is for the style sheets that the editor adds at run time; the pages have none of their own.
    """
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": f"'self' 'nonce-{nonce}'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "same-origin",
        "Vary": "HX-Request",
        "X-Content-Type-Options": "nosniff",
    }
