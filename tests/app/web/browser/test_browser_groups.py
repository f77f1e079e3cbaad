"""A group of replicas in a real Chromium: its charts, its table, what is done to all, the deviation of its models."""

import re

import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from app.artifacts.store import open_store
from app.auth import AttemptIdentity
from app.db import transaction
from app.jobs import metrics
from app.settings import Settings
from app.tables import Attempt, Job
from app.tables.base import now
from tests.app.web.browser.browsing import chart, drag, expect_faults
from tests.app.web.seeding import SeededGroup, add_checkpoint, encode
from tests.app.web.seeding_groups import STEPS, curves

pytestmark = pytest.mark.browser

PICTURE = "canvas => canvas.toDataURL()"


def test_the_replicas_are_drawn_as_a_mean_with_its_band_and_as_lines(
    page: Page, server: str, ensemble: SeededGroup
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/metrics?" in request.url else None)
    page.goto(f"{server}/groups")
    page.get_by_role("link", name="water-ensemble").click()
    expect(page.locator("#charts canvas")).to_have_count(3)
    legend = page.locator(f"{chart('rmse_f')} .u-legend")
    expect(legend).to_contain_text(re.compile(r"training, mean\s*[\d.]+ ± [\d.]+ of 3"))
    expect(legend.locator("tr:visible")).to_have_count(3)
    picture = page.locator(f"{chart('rmse_f')} canvas")
    seen = {picture.evaluate(PICTURE)}
    for name in ("95 % band", "± std", "every replica"):
        page.get_by_role("button", name=name).click()
        if name == "every replica":
            expect(page.locator(f"{chart('rmse_f')} .u-legend .unlisted")).to_have_count(16)
        seen.add(picture.evaluate(PICTURE))
    assert len(seen) == 4
    assert sum("/jobs/" in url for url in asked) == 4, "a line of each replica, once they were wanted"
    drag(page, page.locator(f"{chart('rmse_f')} .u-over"), 0.25, 0.5)
    expect(page.locator("#zoom-range")).to_contain_text("steps ")
    page.reload()
    expect(page.get_by_role("button", name="95 % band")).to_have_attribute("aria-pressed", "false")


def test_a_group_is_followed_while_it_trains(page: Page, server: str, ensemble: SeededGroup, app: FastAPI) -> None:
    page.goto(f"{server}/groups/{ensemble.group}")
    row = page.locator(f"#replicas #job-{ensemble.replica}")
    expect(row).to_contain_text("560 / 600")
    expect(page.locator("#final-values .outlier", has_text="outlier")).not_to_have_count(0)
    legend = page.locator(f"{chart('rmse_f')} .u-legend")
    expect(legend).to_contain_text("of 3")
    with transaction(app.state.sessions) as session:
        job = session.get_one(Job, ensemble.replica)
        attempt = session.query(Attempt).filter(Attempt.job_id == job.id).one()
        rest = {key: values[job.step :] for key, values in curves(1, STEPS, STEPS).items()}
        metrics.ingest(session, AttemptIdentity(attempt.id, job.id, 1), 1, encode(rest))
        job.step, job.state = STEPS, "completed"
        job.version += 1
    expect(row).to_contain_text("600 / 600")
    expect(legend).to_contain_text("of 4")
    expect(page.locator("#final-values h2")).to_have_text("Final values")
    expect(page.get_by_role("button", name="Cancel all…")).to_have_count(0)


def test_all_replicas_are_paused_at_once(page: Page, server: str, ensemble: SeededGroup) -> None:
    page.goto(f"{server}/groups/{ensemble.group}")
    page.get_by_role("button", name="Pause all").click()
    expect(page.locator(f"#replicas #job-{ensemble.replica} .chip")).to_have_text("stopping")
    expect(page.locator("#refusal")).to_contain_text("there is nothing to pause")
    page.get_by_role("button", name="Cancel all…").click()
    page.get_by_role("button", name="Stop now").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#refusal")).to_contain_text("Unchanged")


def test_the_deviation_of_a_groups_models_is_started_and_shown(
    page: Page, server: str, ensemble: SeededGroup, app: FastAPI, settings: Settings, faults: list[str]
) -> None:
    page.goto(f"{server}/groups/{ensemble.group}")
    page.get_by_label("On the data of").select_option(label="water@2 (2,480 frames)")
    page.get_by_role("button", name="Model deviation").click()
    expect(page.locator(".work .problems")).to_contain_text("checkpoint")
    expect_faults(faults, "422 (Unprocessable")
    with transaction(app.state.sessions) as session:
        for job in session.query(Job).filter(Job.group_id == ensemble.group, Job.replica.is_not(None)):
            add_checkpoint(session, open_store(settings), job, STEPS, at=now())
    page.get_by_role("button", name="Model deviation").click()
    page.wait_for_url(re.compile(rf"{server}/jobs/\d+$"))
    expect(page.locator("#job-head")).to_contain_text(f"of group {ensemble.group}")
    page.goto(f"{server}/jobs/{ensemble.deviation}")
    expect(page.locator(f"{chart('devi/f')} canvas")).to_be_visible()
    expect(page.locator("#charts-note")).to_contain_text("Force deviation: at most 0.4173 eV/Å, at frame 171.")
    with page.expect_download() as download:
        page.get_by_role("link", name="model_devi.out").click()
    assert download.value.path().read_text().startswith("#       step")
