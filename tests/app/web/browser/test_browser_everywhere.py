"""Every page in a real Chromium: silent towards the rest of the world, accessible, fit for a phone, usable by keyboard."""

import pytest
from playwright.sync_api import Page, expect

from app.web import build
from tests.app.web.browser.browsing import expect_faults, paths
from tests.app.web.seeding import Seeded, SeededGroup

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_every_page_is_accessible_and_has_no_word_for_anybody_else(
    page: Page, server: str, content: Seeded, ensemble: SeededGroup, scheme: str, faults: list[str]
) -> None:
    axe = (build.ASSETS / "node_modules" / "axe-core" / "axe.min.js").read_text()
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    broken: list[str] = []
    for path in [*paths(content, ensemble), "/jobs/999"]:
        page.goto(f"{server}{path}", wait_until="load")
        expect(page.locator("h1")).to_have_count(1)
        page.wait_for_timeout(400)
        assert page.title().endswith("· Cairn"), "the hostile script must not have run"
        page.evaluate(axe)
        result = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})")
        broken += [
            f"{path}: {rule['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
            for rule in result["violations"]
            for node in rule["nodes"][:3]
            # CodeMirror's scrolling part holds the editable text, which has the focus.
            if "cm-scroller" not in node["html"]
        ]
    assert broken == []
    # The page of the job that does not exist.
    expect_faults(faults, "404 (Not Found)")


def test_every_page_fits_a_phone(page: Page, server: str, content: Seeded, ensemble: SeededGroup) -> None:
    page.set_viewport_size({"width": 360, "height": 780})
    for path in paths(content, ensemble):
        page.goto(f"{server}{path}", wait_until="load")
        page.wait_for_timeout(300)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, f"{path} is {width} pixels wide"


def test_the_keyboard_leads_everywhere(page: Page, server: str, content: Seeded) -> None:
    page.goto(f"{server}/jobs")
    for keys, path in (("gd", "/datasets"), ("gw", "/workers"), ("gj", "/jobs")):
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_url(f"{server}{path}")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    page.reload()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()


def test_the_theme_is_remembered(page: Page, server: str) -> None:
    page.goto(f"{server}/workers")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Switch between light and dark").click()
    dark = page.evaluate(background)
    assert light != dark
    page.reload()
    assert page.evaluate(background) == dark


def test_a_session_that_ended_leads_to_the_login(page: Page, server: str, content: Seeded, faults: list[str]) -> None:
    page.goto(f"{server}/workers")
    page.context.clear_cookies()
    page.evaluate("document.body.dispatchEvent(new CustomEvent('cairn:change'))")
    page.wait_for_url(f"{server}/login?next=%2Fworkers")
    expect_faults(faults, "401 (Unauthorized)")
