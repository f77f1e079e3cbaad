"""Fixtures of the browser tests: a server full of content, and a Chromium that has signed in."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Playwright, expect, sync_playwright
from sqlalchemy.orm import sessionmaker

from app.db import make_engine
from app.keys import token_file
from app.settings import Settings
from tests.app.web.seeding import Seeded, SeededGroup, seed_all, seed_group

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
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="session")
def template(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seeded, SeededGroup]:
    """A data directory full of content, made once; tests copy it."""
    directory = tmp_path_factory.mktemp("content")
    settings = Settings(data_dir=directory)
    shutil.copy(sqlite_template, directory / "cairn.db")
    engine = make_engine(settings.effective_database_url)
    sessions = sessionmaker(engine, expire_on_commit=False)
    seeded, group = seed_all(sessions, settings), seed_group(sessions, settings)
    engine.dispose()
    return directory, seeded, group


@pytest.fixture
def settings(template: tuple[Path, Seeded, SeededGroup], tmp_path: Path) -> Settings:
    """Settings of a control plane that has seen some jobs. SQLite: what a browser shows does not depend on it."""
    shutil.copytree(template[0], tmp_path / "data")
    return Settings(data_dir=tmp_path / "data", redis_url=NOWHERE)


@pytest.fixture
def content(template: tuple[Path, Seeded, SeededGroup]) -> Seeded:
    """Ids of the jobs there are."""
    return template[1]


@pytest.fixture
def ensemble(template: tuple[Path, Seeded, SeededGroup]) -> SeededGroup:
    """Ids of the group there is."""
    return template[2]


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


@pytest.fixture(scope="module")
def browser(
    playwright: Playwright, chromium: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    """A browser with a profile of its own."""
    context = playwright.chromium.launch_persistent_context(
        tmp_path_factory.mktemp("profile"),
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
def faults() -> Iterator[list[str]]:
    """Whatever went wrong in the browser: errors on the console, and requests to anywhere but our server."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def page(browser: BrowserContext, faults: list[str], server: str, settings: Settings) -> Iterator[Page]:
    """A page that has signed in with the token; closed before the server is, which waits for live streams."""
    browser.clear_cookies()
    page = browser.new_page()
    page.on("request", lambda r: None if r.url.startswith((server, "data:")) else faults.append(f"request {r.url}"))
    page.on("console", lambda m: faults.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(f"uncaught: {error}"))
    page.goto(f"{server}/login?next=/workers")
    page.get_by_label("Token").fill(token_file(settings, "user").read_text().strip())
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{server}/workers")
    yield page
    page.close()
