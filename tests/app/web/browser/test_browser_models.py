"""Base models in a real Chromium: uploaded, inspected by a worker, made of a checkpoint, looked into."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect
from sqlalchemy import select

from app.db import reading
from app.keys import token_file
from app.settings import Settings
from app.tables import Errand
from tests.app.simulated import SimulatedErrand, SimulatedWorker, add_worker
from tests.app.web.seeding import Seeded

pytestmark = pytest.mark.browser


@pytest.fixture
def worker(server: str, settings: Settings) -> Iterator[SimulatedWorker]:
    """A worker that has introduced itself to the server."""
    token = token_file(settings, "worker").read_text().strip()
    with httpx.Client(base_url=server, headers={"Authorization": f"Bearer {token}"}) as client:
        yield add_worker(client, "one")


def take(app: FastAPI, worker: SimulatedWorker) -> SimulatedErrand:
    """Let a worker take the newest errand."""
    with reading(app.state.sessions) as session:
        errand_id = session.scalars(select(Errand.id).order_by(Errand.id.desc())).first()
    assert errand_id is not None
    return worker.take_errand(errand_id)


def upload(page: Page, path: Path) -> None:
    page.get_by_label("File").set_input_files(path)
    page.get_by_role("button", name="Upload").click()


def test_an_uploaded_model_is_inspected_while_one_watches(
    page: Page, server: str, content: Seeded, app: FastAPI, worker: SimulatedWorker, tmp_path: Path
) -> None:
    path = tmp_path / "Model 4000.pt"
    path.write_bytes(b"weights")
    page.goto(f"{server}/models")
    upload(page, path)
    page.wait_for_url(f"{server}/models/model-4000@1")
    expect(page.locator(".page-head .chip")).to_have_text("inspecting")
    expect(page.get_by_role("link", name="Start a job from it")).to_have_count(0)
    errand = take(app, worker)
    assert errand.fetch() == b"weights"
    assert errand.found(architecture="se_e2_a", parameters=6).status_code == 204
    expect(page.locator(".page-head .chip")).to_have_text("ready")
    expect(page.locator("#model")).to_contain_text("deepmd-kit 3.2.0")
    expect(page.locator("#announcer")).to_have_text("model-4000@1 is ready")
    page.get_by_role("link", name="Start a job from it").click()
    page.wait_for_url(f"{server}/submit?base=model-4000%401")
    expect(page.get_by_label("finetune")).to_be_checked()
    expect(page.get_by_label("Base", exact=True)).to_have_value("model-4000@1")
    expect(page.locator("#base-words")).to_contain_text("se_e2_a, Cu")
    expect(page.locator("#check")).to_contain_text("what you leave out is inherited")


def test_a_refused_model_says_why(
    page: Page, server: str, content: Seeded, app: FastAPI, worker: SimulatedWorker, tmp_path: Path
) -> None:
    path = tmp_path / "thesis.pt"
    path.write_bytes(b"no weights")
    page.goto(f"{server}/models")
    upload(page, path)
    page.wait_for_url(f"{server}/models/thesis@1")
    take(app, worker).refuse("thesis.pt holds no tensors")
    expect(page.get_by_role("heading", name="Refused")).to_be_visible()
    expect(page.locator(".cause")).to_contain_text("thesis.pt holds no tensors")
    page.goto(f"{server}/models")
    expect(page.locator("tr", has_text="thesis")).to_contain_text("refused")
    expect(page.locator("tr", has_text="thesis")).to_contain_text("thesis.pt holds no tensors")


def test_an_upload_without_content_is_refused_at_once(
    page: Page, server: str, content: Seeded, tmp_path: Path, faults: list[str]
) -> None:
    (tmp_path / "empty.pt").touch()
    page.goto(f"{server}/models")
    upload(page, tmp_path / "empty.pt")
    expect(page.locator("#upload-problems")).to_contain_text("is empty")
    assert [fault for fault in faults if "422 (Unprocessable" in fault]
    faults.clear()


def test_the_list_shows_a_model_become_ready(
    page: Page, server: str, content: Seeded, app: FastAPI, worker: SimulatedWorker, tmp_path: Path
) -> None:
    (tmp_path / "new.pt").write_bytes(b"new weights")
    page.goto(f"{server}/models")
    upload(page, tmp_path / "new.pt")
    page.wait_for_url(f"{server}/models/new@1")
    page.goto(f"{server}/models")
    row = page.locator("tr", has_text="new@1")
    expect(row).to_contain_text("inspecting")
    take(app, worker).found()
    expect(row).to_contain_text("ready")


def test_tensors_are_found_by_name_and_by_their_other_names(page: Page, server: str, content: Seeded) -> None:
    page.goto(f"{server}/models/water@1")
    expect(page.locator("#tensor-table tbody tr")).to_have_count(13)
    page.keyboard.press("/")
    page.keyboard.type("fitting_net")
    expect(page.locator("#tensor-table tbody tr:visible")).to_have_count(6)
    expect(page.locator("#tensor-count")).to_have_text("6 of 13")
    page.get_by_label("Filter tensors").fill("_networks.0.layers.2.bias")
    expect(page.locator("#tensor-table tbody tr:visible")).to_have_count(2)
    copy = page.locator(".whole-digest button").first
    copy.click()
    expect(copy).to_have_attribute("data-done", "copied")


def test_a_checkpoint_becomes_a_base_model(page: Page, server: str, content: Seeded) -> None:
    page.goto(f"{server}/jobs/{content.completed}")
    page.get_by_role("button", name="Make it a base model").first.click()
    page.wait_for_url(f"{server}/models/job-{content.completed}@1")
    expect(page.locator("#model")).to_contain_text("job 1, step 20000")
    expect(page.locator(".page-head .chip")).to_have_text("inspecting")
