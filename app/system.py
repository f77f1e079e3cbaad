"""Routes about the service itself: health, version, who I am, login links."""

from importlib.metadata import version

from fastapi import APIRouter, Request, Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app import auth
from app.db import WriteSession, reading
from app.engines.registry import ENGINES
from app.wire.system import Health, LoginLink, Version, Whoami
from app.wire.worker import PROTOCOL_VERSION

router = APIRouter(prefix="/api/v1", tags=["service"])


@router.get("/health", responses={503: {"model": Health}})
def health(request: Request, response: Response) -> Health:
    """Whether database and broker answer. Needs no token, so that a supervisor can ask."""
    database = _database_answers(request)
    redis = request.app.state.doorbell.answers()
    response.status_code = 200 if database and redis else 503
    response.headers["Cache-Control"] = "no-store"
    return Health(ok=database and redis, database=database, redis=redis)


def _database_answers(request: Request) -> bool:
    try:
        with reading(request.app.state.sessions) as session:
            session.execute(text("SELECT count(*) FROM alembic_version"))
    except SQLAlchemyError:
        return False
    return True


@router.get("/version")
def show_version(_: auth.CurrentUser) -> Version:
    """Versions of the service and of the engines' libraries."""
    return Version(
        version=version("cairn"),
        protocol=PROTOCOL_VERSION,
        engines={engine.name: version(engine.library) for engine in ENGINES},
    )


@router.get("/whoami")
def whoami(user: auth.CurrentUser) -> Whoami:
    """Whose token this is."""
    return Whoami(name=user.name)


@router.post("/login-links", status_code=201)
def make_login_link(request: Request, user: auth.CurrentUser, session: WriteSession) -> LoginLink:
    """Make a link that signs one browser in as the owner of this token, once, within a quarter of an hour."""
    code, expires_at = auth.make_login_code(session, user.token_id)
    address = request.app.state.settings.effective_public_url
    return LoginLink(code=code, url=f"{address}/login?code={code}", expires_at=expires_at)
