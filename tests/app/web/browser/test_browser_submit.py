"""Putting a job together, and uploading data for it, in a real Chromium."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.app.web.browser.browsing import expect_faults
from tests.app.web.seeding import HOSTILE, Seeded, config

pytestmark = pytest.mark.browser

Typist = Callable[[Any], None]


@pytest.fixture
def put(page: Page, server: str, content: Seeded, faults: list[str]) -> Iterator[Typist]:
    """Open the submit page; the function given replaces what is in the editor.

    Unfinished input is checked, too, and what the server refuses, browsers print on the console.
    """
    page.goto(f"{server}/submit")
    editor = page.locator(".cm-content")
    expect(editor).to_be_visible()

    def type_it(text: Any) -> None:
        editor.click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(text if isinstance(text, str) else json.dumps(text, indent=4))

    yield type_it
    page.close()  # an answer may still be on its way
    faults[:] = [fault for fault in faults if "422 (Unprocessable" not in fault]


def test_the_example_is_valid_and_becomes_a_job(page: Page, server: str, put: Typist) -> None:
    expect(page.locator("#check")).to_contain_text("Paste a configuration")
    page.get_by_role("button", name="Example: DeePMD-kit", exact=True).click()
    expect(page.locator("#check .verdict")).to_have_text("Ready to submit")
    expect(page.locator("#check")).to_contain_text("20,000")
    page.get_by_label("Name").fill("from the dashboard")
    page.get_by_label("Root seed").fill("7")
    page.get_by_label("Tags").fill("a, b")
    page.get_by_label("Test on, once").fill("dataset:water@1")
    page.locator("#test-on-add").click()
    expect(page.locator("#check")).to_contain_text("names dataset:water@1/")
    page.get_by_label("Do not test on dataset:water@1").click()
    page.get_by_label("Test on, once").fill("dataset:copper-emt@1")
    page.get_by_label("Priority").focus()  # what was typed and left is meant
    expect(page.locator("#test-on li")).to_have_text(re.compile("^dataset:copper-emt@1"))
    page.get_by_label("of these steps as well").fill("2000, never")
    expect(page.locator("#check")).to_contain_text("/test_at/1")
    page.get_by_label("of these steps as well").fill("2000, 4000")
    expect(page.locator("#check .verdict").first).to_have_text("Ready to submit")
    expect(page.locator("#check")).to_contain_text("which is also trained on")
    page.get_by_role("button", name="Submit", exact=True).click()
    page.wait_for_url(re.compile(rf"{server}/jobs/\d+$"))
    expect(page.locator("#tests")).to_contain_text(
        "Once it has completed, and at step 2000, 4000: on dataset:copper-emt@1"
    )
    page.goto(page.url.replace("/jobs/", "/submit?from="))
    expect(page.locator("#test-on li")).to_have_text(re.compile("^dataset:copper-emt@1"))
    expect(page.get_by_label("of these steps as well")).to_have_value("2000, 4000")
    page.go_back()
    page.get_by_role("button", name="Test on…").click()
    page.get_by_label("Data, separated").fill("dataset:copper-emt/md-330K")
    page.get_by_role("button", name="Test on these").click()
    expect(page.locator("#tests")).to_contain_text(
        "Once it has completed, and at step 2000, 4000: on dataset:copper-emt@1/md-330K"
    )
    expect(page.locator("h1")).to_have_text("from the dashboard")
    expect(page.locator("#job-head .tag")).to_have_text(["a", "b"])
    expect(page.locator("main")).to_contain_text("Root seed")
    page.goto(f"{server}/submit")
    expect(page.locator(".cm-placeholder")).to_be_visible()


def test_the_servers_problems_stand_at_their_place(page: Page, put: Typist) -> None:
    broken = config()
    broken["model"]["descriptor"]["rcutt"] = 6.0
    broken["training"]["training_data"]["systems"] = ["dataset:watre"]
    put(broken)
    check = page.locator("#check")
    expect(check.locator(".verdict")).to_contain_text("problem")
    expect(check).to_contain_text("rcutt")
    expect(page.locator(".cm-lintRange-error").first).to_be_visible()
    expect(page.get_by_role("button", name="Submit", exact=True)).to_be_disabled()
    check.locator(".pointer").first.click()
    expect(page.locator(".cm-editor.cm-focused")).to_be_visible()
    put(config())
    expect(check.locator(".verdict")).to_have_text("Ready to submit")
    expect(page.locator(".cm-lintRange-error")).to_have_count(0)


def test_what_is_not_json_is_marked_without_asking_the_server(page: Page, put: Typist) -> None:
    put('{"model": {\n  "type_map": ["O", "H"],,\n}}')
    expect(page.locator("#check .verdict")).to_have_text("Not valid JSON yet")
    expect(page.locator("#check")).to_contain_text("Line 2")
    expect(page.locator(".cm-lint-marker-error").first).to_be_visible()


def test_the_config_is_sent_as_it_was_typed(page: Page, put: Typist) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or "") if "submit/check" in request.url else None)
    put('{"model": {"rcut": 6.0, "seed": 12345678901234567890, "type": "a", "type": "b"}}')
    expect(page.locator("#check")).to_contain_text("stands twice")
    assert sent[-1].startswith(
        '{"config":{"model": {"rcut": 6.0, "seed": 12345678901234567890, "type": "a", "type": "b"}},'
    )


def test_keys_and_values_are_completed_from_the_schema(page: Page, put: Typist) -> None:
    put('{"model": {"descriptor": {"type": "se_e2_a", }}}')
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.keyboard.type('"axis')
    offered = page.locator(".cm-tooltip-autocomplete")
    expect(offered).to_contain_text("axis_neuron")
    expect(page.locator(".schema-card")).to_contain_text("integer")
    page.wait_for_timeout(300)  # a list that has just appeared takes no keys yet: they were meant for the text
    page.keyboard.press("Enter")
    expect(page.locator(".cm-content")).to_contain_text('"axis_neuron": ')
    put('{"model": {"descriptor": {"type": }}}')
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Control+Space")
    expect(offered).to_contain_text("se_atten_v2")


def test_a_key_explains_itself_under_the_pointer(page: Page, put: Typist) -> None:
    put('{"model": {"descriptor": {"type": "se_e2_a", "rcut_smth": 0.5}}}')
    page.get_by_text('"rcut_smth"').hover()
    expect(page.locator(".cm-tooltip-hover .schema-card")).to_contain_text("rcut_smth")


def test_a_dataset_is_inserted_where_the_cursor_is(page: Page, put: Typist) -> None:
    put('{"training": {"training_data": {"systems": ["dataset:water@1"]}}}')
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    page.get_by_label("Insert a dataset reference").select_option("dataset:water@2/md-330K")
    expect(page.locator(".cm-content")).to_contain_text('["dataset:water@1", "dataset:water@2/md-330K"]')


def test_a_draft_survives_a_reload(page: Page, put: Typist) -> None:
    put({"model": {"comment": HOSTILE}})
    expect(page.locator("#check .verdict")).to_be_visible()
    page.reload()
    expect(page.locator(".cm-content")).to_contain_text(json.dumps(HOSTILE))


def frames(path: Path, count: int, *, labelled: bool = True) -> Path:
    """Write frames of four copper atoms, with energies (eV) and forces (eV/Å) or without."""
    import ase
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    generator = np.random.default_rng(1)
    images = []
    for _ in range(count):
        atoms = ase.Atoms("Cu4", positions=generator.uniform(0, 5, (4, 3)), cell=[5, 5, 5], pbc=True)
        labels = {"energy": -3.5 * 4, "forces": generator.normal(0, 0.1, (4, 3))} if labelled else {}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        images.append(atoms)
    write(path, images, format="extxyz")
    return path


def test_a_dataset_is_uploaded_and_shown(page: Page, server: str, content: Seeded, tmp_path: Path) -> None:
    page.goto(f"{server}/datasets")
    page.get_by_label("File").set_input_files(frames(tmp_path / "Copper Frames.extxyz", 12))
    expect(page.get_by_label("Name")).to_have_value("copper-frames")
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url(f"{server}/datasets/copper-frames@1")
    expect(page.locator("h1")).to_have_text("copper-frames@1")
    expect(page.locator("main")).to_contain_text('"systems": ["dataset:copper-frames@1"]')
    expect(page.locator(".histogram rect").first).to_be_attached()


def test_an_upload_that_is_refused_says_why(
    page: Page, server: str, content: Seeded, tmp_path: Path, faults: list[str]
) -> None:
    page.goto(f"{server}/datasets")
    page.get_by_label("File").set_input_files(frames(tmp_path / "unlabelled.extxyz", 2, labelled=False))
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#upload-problems li").first).to_be_visible()
    expect(page.locator("#upload-problems")).to_contain_text("energ")
    expect(page.get_by_role("button", name="Upload")).to_be_enabled()
    expect_faults(faults, "422 (Unprocessable")
