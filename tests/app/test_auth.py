import stat
import time

import pytest
from fastapi import FastAPI, Form, Request, Response
from fastapi.testclient import TestClient
from sqlalchemy import update

from app import auth
from app.db import WriteSession, transaction
from app.keys import ensure_first_tokens, token_file
from app.main import create_app
from app.settings import Settings
from app.tables import LoginCode, Token
from app.tables.base import now


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    """An application with a login page as simple as can be, and one form."""
    app = create_app(settings, background=False)

    @app.get("/api/enter")
    def enter(code: str, request: Request, response: Response, session: WriteSession) -> str:
        auth.sign_in(response, request, auth.redeem_login_code(session, code))
        return "in"

    @app.get("/api/csrf")
    def csrf(request: Request) -> str:
        return auth.csrf_token(request)

    @app.post("/api/change")
    def change(user: auth.CurrentUser, colour: str = Form("red")) -> str:
        return colour

    return app


def enter(anonymous: TestClient, client_token: str) -> str:
    link = anonymous.post("/api/v1/login-links", headers={"Authorization": f"Bearer {client_token}"}).json()
    assert link["url"].endswith(f"/login?code={link['code']}")
    assert anonymous.get("/api/enter", params={"code": link["code"]}).status_code == 200
    return link["code"]


@pytest.fixture
def user_token(anonymous, settings) -> str:
    return token_file(settings, "user").read_text().strip()


def test_first_tokens_are_readable_by_their_owner_only(anonymous, settings):
    for scope in ("user", "worker"):
        assert stat.S_IMODE(token_file(settings, scope).stat().st_mode) == 0o600


def test_a_restart_keeps_the_tokens(client, settings, app):
    before = token_file(settings, "user").read_text()
    with transaction(app.state.sessions) as session:
        ensure_first_tokens(session, settings)
        assert session.query(Token).count() == 2
    assert token_file(settings, "user").read_text() == before


def test_a_wiped_database_learns_the_token_file_again(client, settings, app):
    with transaction(app.state.sessions) as session:
        session.query(Token).delete()
    assert client.get("/api/v1/whoami").status_code == 401
    with transaction(app.state.sessions) as session:
        ensure_first_tokens(session, settings)
    assert client.get("/api/v1/whoami").status_code == 200


def test_without_a_token_nothing_opens(anonymous):
    answer = anonymous.get("/api/v1/whoami")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json()["code"] == "unauthorized"


@pytest.mark.parametrize("token", ["nonsense", "cairn_user_x", "ü", ""])
def test_an_unknown_token_is_refused(anonymous, token):
    headers = {"Authorization": f"Bearer {token}".encode()}
    assert anonymous.get("/api/v1/whoami", headers=headers).status_code == 401


def test_a_worker_token_opens_nothing_of_a_users(worker_client):
    answer = worker_client.get("/api/v1/whoami")
    assert answer.status_code == 403
    assert "worker token" in answer.json()["message"]


def test_a_revoked_token_is_refused(client, app):
    with transaction(app.state.sessions) as session:
        session.execute(update(Token).values(revoked_at=now()))
    assert client.get("/api/v1/whoami").status_code == 401


def test_a_login_code_works_once(anonymous, user_token):
    code = enter(anonymous, user_token)
    assert anonymous.get("/api/v1/whoami").status_code == 200
    again = anonymous.get("/api/enter", params={"code": code})
    assert again.status_code == 401
    assert "used" in again.json()["message"]


def test_a_login_code_expires(anonymous, user_token, app):
    code = anonymous.post("/api/v1/login-links", headers={"Authorization": f"Bearer {user_token}"}).json()["code"]
    with transaction(app.state.sessions) as session:
        session.execute(update(LoginCode).values(expires_at=now()))
    assert anonymous.get("/api/enter", params={"code": code}).status_code == 401


def test_the_session_cookie_is_not_for_scripts(anonymous, user_token):
    code = anonymous.post("/api/v1/login-links", headers={"Authorization": f"Bearer {user_token}"}).json()["code"]
    cookie = anonymous.get("/api/enter", params={"code": code}).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


@pytest.mark.parametrize(
    "forge", [lambda value: value[:-1] + "0", lambda value: "9" + value, lambda value: "", lambda value: "a.b.c.d"]
)
def test_a_forged_session_is_refused(anonymous, user_token, forge):
    enter(anonymous, user_token)
    value = anonymous.cookies[auth.SESSION_COOKIE]
    anonymous.cookies.clear()
    anonymous.cookies.set(auth.SESSION_COOKIE, forge(value))
    if forge(value) != value:
        assert anonymous.get("/api/v1/whoami").status_code == 401


def test_a_session_ends_with_its_lifetime(anonymous, user_token, monkeypatch):
    enter(anonymous, user_token)
    later = time.time() + auth.SESSION_LIFETIME_S + 1
    monkeypatch.setattr(auth.time, "time", lambda: later)
    assert anonymous.get("/api/v1/whoami").status_code == 401


def test_revoking_the_token_ends_its_sessions(anonymous, user_token, app):
    enter(anonymous, user_token)
    with transaction(app.state.sessions) as session:
        session.execute(update(Token).values(revoked_at=now()))
    assert anonymous.get("/api/v1/whoami").status_code == 401


def test_a_change_by_cookie_needs_the_csrf_token(anonymous, user_token):
    enter(anonymous, user_token)
    token = anonymous.get("/api/csrf").json()
    refused = anonymous.post("/api/change", data={"colour": "blue"})
    assert (refused.status_code, refused.json()["code"]) == (403, "csrf")
    assert anonymous.post("/api/change", data={"csrf_token": "x" + token[1:]}).status_code == 403
    assert anonymous.post("/api/change", data={"colour": "blue", "csrf_token": token}).json() == "blue"
    assert anonymous.post("/api/change", headers={"X-CSRF-Token": token}).json() == "red"


def test_a_change_by_bearer_needs_none(client):
    assert client.post("/api/change").json() == "red"
