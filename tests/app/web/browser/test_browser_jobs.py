"""The list of jobs and the pages of one job in a real Chromium, live."""

import re

import pytest
from fastapi import FastAPI
from playwright.sync_api import Locator, Page, expect

from app.artifacts.store import open_store
from app.db import transaction
from app.settings import Settings
from app.tables import Job
from app.tables.base import now
from tests.app.web.browser.browsing import chart, drag
from tests.app.web.seeding import HOSTILE, Seeded, add_checkpoint, add_log_line, advance

pytestmark = pytest.mark.browser


def test_the_list_follows_the_server_without_flicker(page: Page, server: str, content: Seeded, app: FastAPI) -> None:
    page.goto(f"{server}/jobs")
    expect(page.locator("#connection[data-status=live]")).to_be_attached()
    row = page.locator(f"#job-{content.running}")
    expect(row).to_contain_text("12,345 / 20,000")
    row.evaluate("row => { row.mark = 'the same element' }")
    with transaction(app.state.sessions) as session:
        advance(session, content.running, 12_900)
    expect(row).to_contain_text("12,900 / 20,000")
    assert row.evaluate("row => row.mark") == "the same element"
    with transaction(app.state.sessions) as session:
        session.get_one(Job, content.queued).name = "renamed"
        advance(session, content.queued, 1)
    expect(page.locator(f"#job-{content.queued}")).to_contain_text("renamed")


def test_the_list_filters_while_typing(page: Page, server: str, content: Seeded) -> None:
    page.goto(f"{server}/jobs")
    page.keyboard.press("/")
    page.keyboard.type("high")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("water-high-lr")
    assert "q=high&" in page.url
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.get_by_label("failed").check()
    page.wait_for_url(f"{server}/jobs?q=&state=failed&where=")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.reload()
    expect(page.get_by_label("failed")).to_be_checked()
    expect(page.locator("tbody tr").last).to_contain_text("water-high-lr")


def test_charts_zoom_into_what_was_not_sent_before(page: Page, server: str, content: Seeded) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/metrics?" in request.url else None)
    page.goto(f"{server}/jobs/{content.completed}")
    expect(page.locator("#charts canvas")).to_have_count(5)
    titles = page.locator(".chart-title").all_inner_texts()
    assert titles == ["Loss", "Energy RMSE", "Force RMSE", "Learning rate", "Time per step"]
    expect(page.locator(chart("rmse_f"))).to_contain_text("eV/Å")
    expect(page.locator(f"{chart('rmse_f')} .u-legend")).to_contain_text("validation")
    area = page.locator(f"{chart('rmse_f')} .u-over")
    drag(page, area, 0.25, 0.5)
    expect(page.locator("#zoom-range")).to_contain_text("steps ")
    expect(page.locator("#zoom-out")).to_be_visible()
    wanted = re.search(r"max_points=(\d+)&from_step=(\d+)&to_step=(\d+)", asked[-1])
    assert wanted is not None
    points, first, last = (int(group) for group in wanted.groups())
    assert 4000 < first < 6000
    assert 9000 < last < 11000
    assert points > 800
    page.locator("#zoom-out").click()
    expect(page.locator("#zoom-out")).to_be_hidden()
    assert "from_step" not in asked[-1]


def test_charts_show_values_under_the_cursor_and_change_their_axes(page: Page, server: str, content: Seeded) -> None:
    page.goto(f"{server}/jobs/{content.completed}")
    legend = page.locator(f"{chart('loss')} .u-legend")
    expect(legend).to_contain_text("20,000")
    page.locator(f"{chart('loss')} .u-over").hover(position={"x": 60, "y": 60})
    expect(legend).not_to_contain_text("20,000")
    here, there = (step_of(page.locator(f"{chart(name)} .u-legend")) for name in ("loss", "lr"))
    assert abs(here - there) < 200, "the cursors move together"
    picture = page.locator(f"{chart('loss')} canvas")
    before = picture.evaluate("canvas => canvas.toDataURL()")
    page.locator(f"{chart('loss')} .toggle").click()
    linear = picture.evaluate("canvas => canvas.toDataURL()")
    assert linear != before
    page.get_by_label("Smoothing").fill("90")
    expect(legend).to_contain_text("averaged")
    assert picture.evaluate("canvas => canvas.toDataURL()") != linear
    page.get_by_role("button", name="log steps").click()
    page.reload()
    expect(page.get_by_label("Smoothing")).to_have_value("90")
    expect(page.get_by_role("button", name="log steps")).to_have_attribute("aria-pressed", "true")


def step_of(legend: Locator) -> int:
    return int(legend.locator(".u-value").first.inner_text().replace(",", ""))


def test_charts_grow_while_the_job_runs(page: Page, server: str, content: Seeded, app: FastAPI) -> None:
    page.goto(f"{server}/jobs/{content.running}")
    legend = page.locator(f"{chart('loss')} .u-legend")
    expect(legend).to_contain_text("12,345")
    with transaction(app.state.sessions) as session:
        advance(session, content.running, 12_500, with_metrics=True)
    expect(legend).to_contain_text("12,500")
    expect(page.locator("#job-head")).to_contain_text("12,500 / 20,000")


def test_checkpoints_and_events_appear_while_the_job_runs(
    page: Page, server: str, content: Seeded, app: FastAPI, settings: Settings
) -> None:
    page.goto(f"{server}/jobs/{content.running}")
    canvas = page.locator(f"{chart('loss')} canvas")
    canvas.evaluate("canvas => { canvas.mark = 'the same element' }")
    expect(page.locator("#checkpoints li")).to_have_count(3)
    with transaction(app.state.sessions) as session:
        job = session.get_one(Job, content.running)
        add_checkpoint(session, open_store(settings), job, 12_400, at=now())
        advance(session, content.running, 12_400)
    expect(page.locator("#checkpoints li")).to_have_count(4)
    expect(page.locator("#checkpoints li").first).to_contain_text("step 12,400")
    expect(page.locator("#timeline li").first).to_contain_text("checkpoint of step 12400")
    assert canvas.evaluate("canvas => canvas.mark") == "the same element", "the charts are left alone"


def test_the_log_follows_and_shows_hostile_text_as_text(page: Page, server: str, content: Seeded, app: FastAPI) -> None:
    page.goto(f"{server}/jobs/{content.running}/log")
    log = page.locator("#log")
    expect(log).to_contain_text(HOSTILE)
    with transaction(app.state.sessions) as session:
        add_log_line(session, content.running, f"a new line with µ and {HOSTILE}")
    expect(log).to_contain_text("a new line with µ and <script>")
    assert log.evaluate("log => log.children.length") == 0


def test_a_job_is_cancelled_through_the_dialog(page: Page, server: str, content: Seeded) -> None:
    page.goto(f"{server}/jobs/{content.running}")
    page.get_by_role("button", name="Cancel…").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Checkpoint, then stop").click()
    expect(page.locator("#job-head .chip")).to_have_text("stopping")
    expect(page.get_by_role("button", name="Stop now…")).to_be_visible()


def test_the_configuration_shows_where_values_come_from(page: Page, server: str, content: Seeded) -> None:
    page.goto(f"{server}/jobs/{content.completed}/config")
    row = page.locator("tr[data-pointer='/model/descriptor/neuron']")
    row.locator("summary").click()
    expect(row.locator(".sheet")).to_contain_text("default")
    page.keyboard.press("Escape")
    expect(row.locator(".sheet")).to_be_hidden()
    page.get_by_label(re.compile("^default")).uncheck()
    expect(page.locator("tr[data-origin=default]").first).to_be_hidden()
    expect(row).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("rcut_smth")
    expect(page.locator("tr[data-pointer]:visible")).to_have_count(1)
    expect(page.locator("tr.section:visible")).to_have_text(["model", "descriptor"])


SAID = """button => {
  const said = [];
  new MutationObserver(() => said.push(button.dataset.done)).observe(button, {attributeFilter: ["data-done"]});
  return said;
}"""
"""What a button says of copying. It says so for a moment, which somebody who only looks now and then may miss."""


def test_copying_works_and_says_so(page: Page, server: str, content: Seeded) -> None:
    page.goto(f"{server}/jobs/{content.completed}")
    digest = page.locator(".checkpoints .digest").first
    said = digest.evaluate_handle(SAID)
    digest.click()
    expect(page.locator("#announcer")).to_have_text("Copied")
    assert said.evaluate("said => said[0]") == "copied"
    page.locator("#commands > summary").click()
    expect(page.locator("#commands .sheet")).to_contain_text(f"cairn download {content.completed}")


def test_what_was_copied_or_sent_stays_so_while_the_page_is_brought_up_to_date(
    page: Page, server: str, content: Seeded
) -> None:
    page.goto(f"{server}/jobs/{content.running}")
    form = page.locator("#job-head form[data-call]").first
    form.evaluate(
        "form => { form.setAttribute('aria-busy', 'true'); form.dataset.done = 'copied'; form.title = 'old' }"
    )
    page.evaluate("document.body.dispatchEvent(new CustomEvent('cairn:change'))")
    expect(form).not_to_have_attribute("title", "old")
    expect(form).to_have_attribute("aria-busy", "true")
    expect(form).to_have_attribute("data-done", "copied")
