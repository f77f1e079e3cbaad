"""Who is asking: tokens, the browser's session cookie with its CSRF guard, and one-time login codes."""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Depends, Path, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db import reading
from app.errors import Conflict, Forbidden, Unauthorized
from app.settings import Settings
from app.tables import Attempt, Errand, LoginCode, Token
from app.tables.base import now

SESSION_COOKIE = "cairn_session"
SESSION_LIFETIME_S = 14 * 24 * 3600
LOGIN_CODE_LIFETIME = timedelta(minutes=15)
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(auto_error=False, description="A token: `cairn up` keeps the first one in `user.token`.")


@dataclass(frozen=True)
class User:
    """Someone with a user token, by header or by session cookie."""

    token_id: int
    name: str


@dataclass(frozen=True)
class WorkerIdentity:
    """A worker process: may introduce itself and claim, nothing else."""

    token_id: int


@dataclass(frozen=True)
class AttemptIdentity:
    """A running attempt, by the token that its claim returned."""

    id: int
    job_id: int
    number: int


@dataclass(frozen=True)
class AttemptToken:
    """What was sent as the token of an attempt: whether it is one, and the attempt runs, `leases.hold` finds out."""

    sha256: str
    attempt_id: int


@dataclass(frozen=True)
class ErrandIdentity:
    """A worker that has taken an errand, by the token that its claim returned."""

    id: int
    token_sha256: str


def hash_token(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token(scope: str) -> str:
    """Return a fresh token of 256 random bits whose prefix says what it opens."""
    return f"cairn_{scope}_{secrets.token_urlsafe(32)}"


# --- tokens -----------------------------------------------------------------------------------------------------------


def find_token(session: Session, token: str, scope: str) -> Token:
    """Return the row of a token that is known, not revoked and of the right scope.

    Raises:
        Unauthorized: it is not known or was revoked.
        Forbidden: it is for something else.
    """
    digest = hash_token(token)
    row = session.scalar(select(Token).where(Token.sha256 == digest, Token.revoked_at.is_(None)))
    if row is None or not hmac.compare_digest(row.sha256, digest):
        raise Unauthorized("this token is not known or was revoked", hint="`cairn up` prints where its token is.")
    if row.scope != scope:
        raise Forbidden(f"this is a {row.scope} token; a {scope} token is needed here")
    return row


def superseded(number: int, state: str) -> Conflict:
    """Return the error that makes a worker kill its trainer and forget the attempt."""
    return Conflict(
        f"attempt {number} is over ({state}); whatever it still does no longer counts", code="attempt-superseded"
    )


def errand_superseded(errand_id: int) -> Conflict:
    """Return the error that makes a worker forget an errand."""
    return Conflict(
        f"errand {errand_id} is not this worker's (any more); what it found does not count", code="errand-superseded"
    )


# --- the browser's session --------------------------------------------------------------------------------------------


def sign_in(response: Response, request: Request, token_id: int) -> None:
    """Give the browser a session: a signed cookie that names the token, so that revoking the token ends it."""
    settings: Settings = request.app.state.settings
    content = f"{token_id}.{int(time.time()) + SESSION_LIFETIME_S}.{secrets.token_hex(8)}"
    response.set_cookie(
        SESSION_COOKIE,
        f"{content}.{_sign(request.app.state.secret, 'session', content)}",
        max_age=SESSION_LIFETIME_S,
        httponly=True,
        samesite="lax",
        secure=settings.effective_public_url.startswith("https://"),
    )


def sign_out(response: Response) -> None:
    """End the browser's session."""
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax")


def user_of_cookie(session: Session, secret: bytes, cookie: str) -> User:
    """Return whose session a cookie is.

    Raises:
        Unauthorized: it is forged or too old, or its token was revoked.
    """
    content, _, signature = cookie.rpartition(".")
    genuine = hmac.compare_digest(signature.encode(), _sign(secret, "session", content).encode())
    token_id, expires = (int(part) for part in content.split(".")[:2]) if genuine else (0, 0)
    row = session.get(Token, token_id) if expires > time.time() else None
    if row is None or row.revoked_at is not None or row.scope != "user":
        raise Unauthorized("your session has ended", hint="Sign in again at /login.")
    return User(row.id, row.name)


def csrf_token(request: Request) -> str:
    """Return what forms send as `csrf_token` and htmx as header `X-CSRF-Token`; empty without a session."""
    cookie = request.cookies.get(SESSION_COOKIE)
    return _sign(request.app.state.secret, "csrf", cookie) if cookie else ""


async def csrf_checked(request: Request) -> None:
    """Refuse a change that a browser was tricked into: with a cookie, unsafe methods need the session's CSRF token.

    It is read from the header or from the field of a URL-encoded form; multipart uploads send the header.
    """
    if request.method in SAFE_METHODS or SESSION_COOKIE not in request.cookies or "authorization" in request.headers:
        return
    sent = request.headers.get(CSRF_HEADER, "")
    if not sent and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        sent = str((await request.form()).get(CSRF_FIELD, ""))
    if not hmac.compare_digest(sent.encode(), csrf_token(request).encode()):
        raise Forbidden("the form's security token is missing or old", code="csrf", hint="Reload the page, try again.")


CsrfChecked = Annotated[None, Depends(csrf_checked)]


def _sign(secret: bytes, purpose: str, content: str) -> str:
    return hmac.new(secret, f"{purpose}:{content}".encode(), hashlib.sha256).hexdigest()


# --- login codes ------------------------------------------------------------------------------------------------------


def make_login_code(session: Session, token_id: int) -> tuple[str, datetime]:
    """Return a code that signs one browser in as the token's owner, and when it stops to work."""
    session.execute(delete(LoginCode).where(LoginCode.expires_at < now()))
    code, expires_at = secrets.token_urlsafe(24), now() + LOGIN_CODE_LIFETIME
    session.add(LoginCode(sha256=hash_token(code), token_id=token_id, expires_at=expires_at))
    session.flush()
    return code, expires_at


def redeem_login_code(session: Session, code: str) -> int:
    """Return the token id of a login code, which works no second time.

    Raises:
        Unauthorized: it is unknown, used or expired.
    """
    row = session.execute(
        delete(LoginCode)
        .where(LoginCode.sha256 == hash_token(code))
        .returning(LoginCode.token_id, LoginCode.expires_at)
    ).one_or_none()
    if row is None or row.expires_at < now():
        raise Unauthorized("this login link was used or has expired", hint="`cairn dashboard` prints a new one.")
    return int(row.token_id)


# --- dependencies ------------------------------------------------------------------------------------------------------


def user(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)], _: CsrfChecked
) -> User:
    """Return who asks: by `Authorization: Bearer`, or by the session cookie of a browser."""
    cookie = request.cookies.get(SESSION_COOKIE)
    # A session of its own, closed at once: a request never holds two connections, so the pool cannot starve itself.
    with reading(request.app.state.sessions) as session:
        if credentials is not None:
            row = find_token(session, credentials.credentials, "user")
            return User(row.id, row.name)
        if cookie is not None:
            return user_of_cookie(session, request.app.state.secret, cookie)
    raise Unauthorized("this needs a token", hint="Send `Authorization: Bearer TOKEN`, or sign in at /login.")


def worker(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> WorkerIdentity:
    """Return which worker token was sent."""
    if credentials is None:
        raise Unauthorized("this needs a worker token", hint="See `worker.token` in the server's data directory.")
    with reading(request.app.state.sessions) as session:
        return WorkerIdentity(find_token(session, credentials.credentials, "worker").id)


def attempt(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> AttemptIdentity:
    """Return the running attempt whose token was sent. Where the address names an attempt, it must be that one.

    Raises:
        Conflict: the attempt has ended or was superseded (`attempt-superseded`); its token opens nothing any more.
    """
    digest = _attempt_digest(credentials)
    with reading(request.app.state.sessions) as session:
        return running_attempt(session, digest, request.path_params.get("attempt_id"))


def running_attempt(session: Session, digest: str, named: str | None) -> AttemptIdentity:
    """Return the running attempt whose token has this digest. Where the address names an attempt, it must be that one.

    Raises:
        Unauthorized: it is the token of no attempt.
        Forbidden: it is that of another one.
        Conflict: `attempt-superseded`.
    """
    row = session.scalar(select(Attempt).where(Attempt.token_sha256 == digest))
    if row is None or not hmac.compare_digest(row.token_sha256, digest):
        raise Unauthorized("this token belongs to no attempt")
    if named not in (None, str(row.id)):
        raise Forbidden("this token belongs to another attempt")
    if row.ended_at is not None:
        raise superseded(row.number, row.state)
    return AttemptIdentity(row.id, row.job_id, row.number)


async def attempt_token(
    attempt_id: Annotated[int, Path(ge=1, lt=2**63)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> AttemptToken:
    """Return what was sent, unchecked: for routes that begin with `leases.hold`, which asks the database only once."""
    return AttemptToken(_attempt_digest(credentials), attempt_id)


def _attempt_digest(credentials: HTTPAuthorizationCredentials | None) -> str:
    if credentials is None:
        raise Unauthorized("this needs the token of an attempt")
    return hash_token(credentials.credentials)


def errand(
    errand_id: Annotated[int, Path(ge=1, lt=2**63)],
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> ErrandIdentity:
    """Return the errand of the address, when the token sent is the one of whoever has it now.

    Raises:
        Conflict: `errand-superseded`: it is not, whatever it once was.
    """
    if credentials is None:
        raise Unauthorized("this needs the token of an errand")
    digest = hash_token(credentials.credentials)
    with reading(request.app.state.sessions) as session:
        holds = (Errand.id == errand_id, Errand.state == "taken", Errand.token_sha256 == digest)
        if session.scalar(select(Errand.id).where(*holds)) is None:
            raise errand_superseded(errand_id)
    return ErrandIdentity(errand_id, digest)


CurrentUser = Annotated[User, Depends(user)]
CurrentWorker = Annotated[WorkerIdentity, Depends(worker)]
CurrentAttempt = Annotated[AttemptIdentity, Depends(attempt)]
SentToken = Annotated[AttemptToken, Depends(attempt_token)]
CurrentErrand = Annotated[ErrandIdentity, Depends(errand)]
