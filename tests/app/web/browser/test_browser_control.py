"""What people do with jobs and workers that are there, in a real Chromium; what is refused says why on the page."""

import re

import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from app.db import transaction
from app.tables import BaseModel, Job, Worker
from app.tables.base import now
from app.wire.models import BranchFacts
from tests.app.web.browser.browsing import expect_faults
from tests.app.web.seeding import Seeded
from tests.app.web.seeding_models import facts

pytestmark = pytest.mark.browser


def test_a_job_is_paused_changed_and_resumed(page: Page, server: str, content: Seeded) -> None:
    page.goto(f"{server}/jobs/{content.queued}")
    chip = page.locator("#job-head .chip")
    page.get_by_role("button", name="Pause").click()
    expect(chip).to_have_text("paused")
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    page.get_by_role("button", name="Change…").click()
    page.get_by_label("Name", exact=True).fill("renamed")
    page.get_by_label("Tags, separated by commas").fill("a, b")
    page.get_by_label(re.compile("^Priority")).fill("77")
    page.get_by_role("button", name="Change", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("h1")).to_have_text("renamed")
    expect(page.locator("#job-head .tag")).to_have_text(["a", "b"])
    page.get_by_role("button", name="Resume").click()
    expect(chip).to_have_text("queued")
    expect(page.locator("#timeline")).to_contain_text("priority 5 is now 77")


def test_what_cannot_be_done_any_more_says_why(
    page: Page, server: str, content: Seeded, app: FastAPI, faults: list[str]
) -> None:
    page.goto(f"{server}/jobs/{content.queued}")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    with transaction(app.state.sessions) as session:
        session.get_one(Job, content.queued).state = "completed"  # the page has not heard of it: no new version
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("alert")).to_contain_text("there is nothing to pause")
    expect_faults(faults, "409 (Conflict)")


def test_a_failed_job_is_retried_and_a_completed_one_trains_on(
    page: Page, server: str, content: Seeded, app: FastAPI, faults: list[str]
) -> None:
    app.state.settings.plan_wait_s = 0.1
    page.goto(f"{server}/jobs/{content.failed}")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#job-head .chip")).to_have_text("queued")
    page.goto(f"{server}/jobs/{content.completed}")
    page.get_by_role("button", name="Extend…").click()
    expect(page.get_by_label("Steps, counted from the very beginning")).to_have_value("40000")
    page.get_by_role("button", name="Train on").click()
    # A worker has yet to look into its checkpoint, and none is there: that is said where it was asked.
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("job-1@1 is not ready")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect_faults(faults, "422 (Unprocessable")


def test_the_same_extension_again_asks_what_to_do(
    page: Page, server: str, content: Seeded, app: FastAPI, faults: list[str]
) -> None:
    app.state.settings.plan_wait_s = 0.1

    def train_on() -> None:
        page.goto(f"{server}/jobs/{content.completed}")
        page.get_by_role("button", name="Extend…").click()
        page.get_by_role("button", name="Train on").click()

    train_on()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("is not ready")
    expect_faults(faults, "422 (Unprocessable")
    with transaction(app.state.sessions) as session:
        job, base = session.get_one(Job, content.completed), session.query(BaseModel).filter_by(name="job-1").one()
        branch = BranchFacts(
            name="", type_map=job.resolved["model"]["type_map"], model=job.resolved["model"], parameters=1
        )
        known = {
            "branches": [branch],
            "config": job.resolved,
            "has_optimizer": True,
            "step": job.step,
            "seed": job.seed,
        }
        base.facts = facts(branch.type_map).model_copy(update=known).model_dump(mode="json")
        base.state = "ready"
    train_on()
    page.wait_for_url(lambda url: re.search(r"/jobs/\d+$", url) and not url.endswith(f"/{content.completed}"))
    extension = page.url
    train_on()
    choices = page.get_by_role("dialog").locator(".twin")
    expect(choices).to_contain_text("extension of water, first try, queued at step 20,000 of 40,000")
    expect_faults(faults, "409 (Conflict)")
    choices.get_by_role("button", name="Reuse it").click()
    page.wait_for_url(extension)


def test_the_same_training_again_asks_what_to_do(page: Page, server: str, content: Seeded, faults: list[str]) -> None:
    page.goto(f"{server}/submit?from={content.completed}")
    expect(page.locator("#check")).to_contain_text("The same training is here already")
    page.get_by_role("button", name="Submit", exact=True).click()
    choices = page.locator("#check .twin")
    expect(choices).to_contain_text(f"#{content.completed} water, first try, completed at step 20,000 of 20,000")
    expect_faults(faults, "409 (Conflict)")
    choices.get_by_role("button", name="Reuse it").click()
    page.wait_for_url(f"{server}/jobs/{content.completed}")
    page.goto(f"{server}/submit?from={content.completed}")
    page.get_by_role("button", name="Submit", exact=True).click()
    choices.get_by_role("button", name="Train anew").click()
    page.wait_for_url(re.compile(rf"{server}/jobs/\d+$"))
    assert not page.url.endswith(f"/{content.completed}")
    expect_faults(faults, "409 (Conflict)")


def test_replicas_are_submitted_as_a_group(page: Page, server: str, content: Seeded) -> None:
    page.goto(f"{server}/submit?from={content.completed}")
    page.get_by_label("Root seed").fill("99")
    page.get_by_label("Replicas").fill("3")
    expect(page.locator("#check")).to_contain_text("3, each with a root of its own")
    page.get_by_role("button", name="Submit", exact=True).click()
    page.wait_for_url(re.compile(rf"{server}/groups/\d+$"))
    expect(page.locator("#replicas tbody tr")).to_have_count(3)


def test_a_worker_drains_and_takes_work_again(page: Page, server: str, app: FastAPI) -> None:
    with transaction(app.state.sessions) as session:
        session.query(Worker).filter(Worker.name == "gpu-box:4711").one().last_seen_at = now()
    page.goto(f"{server}/workers")
    worker = page.get_by_role("region", name="gpu-box:4711")
    expect(worker).to_contain_text("97 % busy")
    expect(worker).to_contain_text("60 GiB of 80 GiB")
    worker.get_by_role("button", name="Drain").click()
    expect(worker.locator(".chip")).to_have_text("draining")
    worker.get_by_role("button", name="Take work again").click()
    expect(worker.locator(".chip")).to_have_text("alive")
