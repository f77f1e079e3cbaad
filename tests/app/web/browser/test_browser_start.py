"""Starting a job from a base in a real Chromium: the check with its plan, what is allowed, comparing, searching."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect
from sqlalchemy import select

from app.db import reading, transaction
from app.engines import registry
from app.keys import token_file
from app.settings import Settings
from app.tables import BaseModel, Errand
from tests.app.jobs.conftest import facts
from tests.app.jobs.stub import StubEngine, inventory
from tests.app.simulated import SimulatedWorker, add_worker
from tests.app.web.seeding import Seeded, finetune_config

pytestmark = pytest.mark.browser

Typist = Callable[[Any], None]


@pytest.fixture
def worker(server: str, settings: Settings, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedWorker]:
    """A worker of an engine of few words, which has the base `stubby` of width 8 and cutoff 6."""
    settings.plan_wait_s = 0.1
    monkeypatch.setattr(registry, "ENGINES", (*registry.ENGINES, StubEngine()))
    with transaction(app.state.sessions) as session:
        found = facts()
        blob = session.scalars(select(BaseModel.blob_sha256)).first()
        session.add(
            BaseModel(
                name="stubby", version=1, engine="stub", state="ready", blob_sha256=blob, size=9, file_name="stubby.pt",
                source="test", facts=found, architecture="a stub", type_map=["Cu"], parameters=8,
            )
        )  # fmt: skip
    token = token_file(settings, "worker").read_text().strip()
    with httpx.Client(base_url=server, headers={"Authorization": f"Bearer {token}"}) as client:
        yield add_worker(client, "one", engines={"stub": "1"})


def list_tensors(app: FastAPI, worker: SimulatedWorker) -> None:
    """Let the worker list the tensors of every model that waits for it."""
    with reading(app.state.sessions) as session:
        waiting = list(session.scalars(select(Errand.id).where(Errand.engine == "stub", Errand.state == "waiting")))
    for errand_id in waiting:
        errand = worker.take_errand(errand_id)
        assert errand.answer(result=inventory(errand.grant["order"]["width"])).status_code == 204


@pytest.fixture
def put(page: Page, server: str, worker: SimulatedWorker, faults: list[str]) -> Iterator[Typist]:
    """Open the submit page for a fine-tune of `stubby`; the function given replaces what is in the editor."""
    page.goto(f"{server}/submit")
    page.get_by_label("Engine").select_option("stub")
    page.get_by_label("finetune").check(force=True)
    page.get_by_label("Base", exact=True).fill("stubby")

    def type_it(text: Any) -> None:
        page.locator(".cm-content").click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(json.dumps(text))

    yield type_it
    page.close()  # an answer may still be on its way
    faults[:] = [fault for fault in faults if "422 (Unprocessable" not in fault]


def test_the_plan_appears_as_soon_as_a_worker_has_listed_the_tensors(
    page: Page, put: Typist, app: FastAPI, worker: SimulatedWorker
) -> None:
    expect(page.locator("#base-words")).to_contain_text("a stub, Cu")
    put({"cutoff": 7.0, "steps": 50})
    check = page.locator("#check")
    expect(check.locator(".verdict")).to_have_text("Ready to submit")
    expect(check.locator(".pending")).to_contain_text("a worker is listing the model's tensors")
    list_tensors(app, worker)
    expect(check.locator(".kept")).to_contain_text("100 % of 8 parameters come from stubby@1")
    expect(check.locator(".pending")).to_have_count(0)
    outcome = page.locator("#outcome-place")
    expect(outcome.get_by_role("region", name="Same shape, different function")).to_contain_text("sees further")
    outcome.locator(".plan-group summary").click()
    expect(outcome.locator(".tensors tbody tr")).to_have_count(1)
    expect(outcome.locator(".tensors")).to_contain_text("the same name")
    outcome.locator("summary", has_text="In words").click()
    expect(outcome.locator(".inheritance")).to_contain_text("cutoff = 7.0: explicit; stubby@1 had 6.0")


def test_values_are_filtered_by_origin_and_stay_so_while_one_types(
    page: Page, put: Typist, app: FastAPI, worker: SimulatedWorker
) -> None:
    put({"cutoff": 7.0})
    rows = page.locator("#config-table tr[data-pointer]:visible")
    expect(page.locator("tr[data-pointer='/cutoff'] .losers")).to_have_text(
        re.compile(r"base\s*6\.0,\s*default\s*6\.0")
    )
    page.locator(".origin-filter").get_by_label(re.compile("^default")).uncheck()
    expect(rows).to_have_count(2)
    page.get_by_label("Filter by key or value").fill("wid")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("base")
    expect(page.locator("#config-count")).to_have_text("1 of 6 values")
    put({"cutoff": 8.0, "steps": 7})
    expect(page.locator("tr[data-pointer='/cutoff']")).to_contain_text("8.0")
    expect(rows).to_have_count(1)
    page.get_by_label("Filter by key or value").fill("")
    expect(rows).to_have_count(3)


def test_a_refused_key_is_allowed_with_one_click(
    page: Page, server: str, put: Typist, app: FastAPI, worker: SimulatedWorker
) -> None:
    put({"width": 16})
    expect(page.locator("#check .pending")).to_be_visible()
    list_tensors(app, worker)
    expect(page.locator("#check .verdict")).to_have_text("2 problems")
    expect(page.get_by_role("button", name="Submit", exact=True)).to_be_disabled()
    page.get_by_role("button", name="Allow width").click()
    expect(page.locator("#allowed li")).to_have_text(re.compile("^width"))
    expect(page.locator("#check .kept")).to_contain_text("0 % of 16 parameters come from stubby@1")
    expect(page.locator("#outcome-place .plan-group")).to_contain_text("another width")
    page.get_by_role("button", name="Do not allow width").click()
    expect(page.locator("#check .verdict")).to_have_text("2 problems")
    page.get_by_label("Allow differences below").fill("width")
    page.keyboard.press("Enter")
    expect(page.locator("#check .verdict")).to_have_text("Ready to submit")
    page.get_by_role("button", name="Submit", exact=True).click()
    page.wait_for_url(re.compile(rf"{server}/jobs/\d+$"))
    page.get_by_role("link", name="Transfer").click()
    expect(page.locator(".plan-summary")).to_contain_text("0 % of 16 parameters come from stubby@1")
    page.get_by_role("link", name="Configuration").click()
    expect(page.locator(".base-line")).to_contain_text("finetune from stubby@1")


def test_a_job_that_waits_for_its_plan_shows_it_as_soon_as_it_is_there(
    page: Page, server: str, put: Typist, app: FastAPI, worker: SimulatedWorker
) -> None:
    put({"width": 8, "depth": 2})
    expect(page.locator("#check .pending")).to_be_visible()
    page.get_by_role("button", name="Submit", exact=True).click()
    page.wait_for_url(re.compile(rf"{server}/jobs/\d+$"))
    expect(page.locator("#job-head .chip")).to_have_text("checking")
    expect(page.locator("#job-head")).to_contain_text("Waiting for a worker to list the model's tensors")
    page.get_by_role("link", name="Transfer").click()
    expect(page.locator("#plan .pending")).to_be_visible()
    list_tensors(app, worker)
    expect(page.locator("#job-head .chip")).to_have_text("queued")
    expect(page.locator("#plan")).to_contain_text("100 % of 8 parameters come from stubby@1")


def test_the_editor_invites_to_what_the_mode_needs(page: Page, put: Typist) -> None:
    invitation = page.locator(".cm-placeholder")
    expect(invitation).to_contain_text("The rest of the model is inherited")
    page.get_by_label("resume").check(force=True)
    expect(invitation).to_contain_text("Everything else is inherited")
    expect(page.get_by_label("Fitting net")).to_be_hidden()
    expect(page.locator("#mode-resume")).to_be_visible()
    page.get_by_label("scratch").check(force=True)
    expect(invitation).to_contain_text("Paste a stub.json here")
    expect(page.get_by_label("Base", exact=True)).to_be_hidden()
    expect(page.locator("#check")).to_contain_text("Paste a configuration")


def test_the_branches_of_a_base_are_offered(page: Page, put: Typist) -> None:
    put({"cutoff": 7.0})
    branch = page.get_by_label("Branch of the base")
    expect(branch).to_be_hidden()
    page.get_by_label("Base", exact=True).fill("omat-multi")
    expect(branch.locator("option")).to_have_text(["as the task is called, or the only one", "H2O", "Metals", "Drugs"])
    with page.expect_request("**/submit/check") as asked:
        branch.select_option("Metals")
    sent = json.loads(asked.value.post_data or "")
    assert sent["start"] == {"mode": "finetune", "base": "omat-multi", "branch": "Metals", "on_mismatch": "adapt"}


def test_a_copy_starts_as_the_job_did(page: Page, server: str, content: Seeded) -> None:
    page.goto(f"{server}/submit?from={content.finetuned}")
    expect(page.get_by_label("finetune")).to_be_checked()
    expect(page.get_by_label("Base", exact=True)).to_have_value("water@1")
    expect(page.locator(".cm-content")).to_contain_text(f'"rcut": {finetune_config()["model"]["descriptor"]["rcut"]}')


def test_two_jobs_are_chosen_and_compared(page: Page, server: str, content: Seeded) -> None:
    page.goto(f"{server}/jobs")
    button = page.get_by_role("button", name="Compare")
    expect(button).to_be_disabled()
    page.get_by_label(f"Compare job {content.finetuned}", exact=True).check()
    page.get_by_label(f"Compare job {content.completed}", exact=True).check()
    expect(page.locator("#chosen")).to_have_text("Two jobs chosen.")
    page.evaluate("document.body.dispatchEvent(new CustomEvent('cairn:change'))")
    page.wait_for_timeout(700)
    expect(page.get_by_label(f"Compare job {content.completed}", exact=True)).to_be_checked()
    expect(button).to_be_enabled()
    button.click()
    page.wait_for_url(f"{server}/jobs/{content.finetuned}/diff/{content.completed}")
    values = page.get_by_role("region", name="Different values").first
    expect(values.locator("tbody tr", has_text="/model/descriptor/rcut")).to_contain_text("6.5")
    origins = page.get_by_role("region", name="Equal values of different origin").first
    expect(origins.locator("tbody tr", has_text="/model/descriptor/sel")).to_contain_text("base")
    expect(page.get_by_role("region", name=f"Job {content.finetuned}")).to_contain_text("61.1 %")
    page.get_by_role("link", name="Swap sides").click()
    page.wait_for_url(f"{server}/jobs/{content.completed}/diff/{content.finetuned}")


def test_a_job_is_compared_from_its_own_page(page: Page, server: str, content: Seeded) -> None:
    page.goto(f"{server}/jobs/{content.completed}")
    page.locator("#compare > summary").click()
    page.locator("#job-head").evaluate("head => { head.title = 'before' }")
    page.evaluate("document.body.dispatchEvent(new CustomEvent('cairn:change'))")
    expect(page.locator("#job-head")).not_to_have_attribute("title", "before")
    page.get_by_label("Compare with job").fill(str(content.cancelled))
    page.locator("#compare button").click()
    page.wait_for_url(f"{server}/jobs/{content.completed}/diff/{content.cancelled}")
    expect(page.locator("main")).to_contain_text("The same training.")


def test_jobs_are_searched_by_the_values_of_their_configs(page: Page, server: str, content: Seeded) -> None:
    page.goto(f"{server}/jobs")
    where = page.get_by_label("Search by values of the configuration")
    where.fill("explicit:descriptor.rcut > 6")
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("tbody")).to_contain_text("finetune from water@1")
    where.fill("explicit:descriptor.rcut > six")
    expect(page.locator("#search-problem")).to_contain_text("compares numbers")
    where.fill("explicit:descriptor.rcut > 6; numb_steps > 100000")
    expect(page.locator("#jobs")).to_contain_text("No job matches")
    expect(page.locator("#search-problem")).to_be_empty()
