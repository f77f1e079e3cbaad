"""Fixtures of the browser tests: a server full of content, and a Chromium that has signed in."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.sync_api import BrowserContext, Page, Playwright, expect, sync_playwright
from seeding import Seeded, seed_all

from app.artifacts.store import open_store
from app.db import transaction
from app.keys import token_file
from app.settings import Settings

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 15_000


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """SQLite only: what a browser shows does not depend on the database."""
    shutil.copy(sqlite_template, tmp_path / "cairn.db")
    return f"sqlite:///{tmp_path / 'cairn.db'}"


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> str:
    """Path of the system's Chromium, or of the one that playwright has installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next(filter(None, map(shutil.which, names)), playwright.chromium.executable_path)
    assert Path(found).exists(), "the browser tests need a Chromium: apt-get install chromium"
    return found


@pytest.fixture
def context(playwright: Playwright, chromium: str, tmp_path: Path, server: str) -> Iterator[BrowserContext]:
    """A browser with a profile of its own; closed before the server is, which waits for live streams."""
    context = playwright.chromium.launch_persistent_context(
        tmp_path / "profile",
        executable_path=chromium,
        args=FLAGS,
        viewport={"width": 1280, "height": 900},
        color_scheme="light",
    )
    context.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    yield context
    context.close()


@pytest.fixture
def faults(context: BrowserContext, server: str) -> Iterator[list[str]]:
    """Whatever went wrong in the browser: errors on the console, and requests to anywhere but our server."""
    found: list[str] = []
    context.on("request", lambda r: None if r.url.startswith((server, "data:")) else found.append(f"request {r.url}"))
    context.on("console", lambda m: found.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
    context.on("weberror", lambda e: found.append(f"uncaught: {e.error}"))
    yield found
    assert found == []


@pytest.fixture
def content(server: str, app: FastAPI, settings: Settings) -> Seeded:
    with transaction(app.state.sessions) as session:
        return seed_all(session, open_store(settings))


@pytest.fixture
def page(context: BrowserContext, faults: list[str], server: str, settings: Settings) -> Page:
    """A page that has signed in with the token."""
    page = context.new_page()
    page.goto(f"{server}/datasets")
    page.get_by_label("Token").fill(token_file(settings, "user").read_text().strip())
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{server}/datasets")
    return page
