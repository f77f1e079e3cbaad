"""Data of a second engine in a real Chromium: text is taken in and shown, and its config tells whose it is."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def corpus(path: Path) -> Path:
    lines = ({"text": f"Sentence {number}. " * (1 + number % 40)} for number in range(300))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_text_is_taken_in_shown_and_named_in_a_config(page: Page, server: str, tmp_path: Path) -> None:
    page.goto(f"{server}/datasets")
    page.get_by_label("File", exact=True).set_input_files(corpus(tmp_path / "Corpus.jsonl"))
    expect(page.get_by_label("Name", exact=True)).to_have_value("corpus")
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url(f"{server}/datasets/corpus@1")
    expect(page.locator("main")).to_contain_text("Documents")
    expect(page.locator(".histogram rect.length").first).to_be_visible()
    expect(page.locator(".sample pre").first).to_contain_text('{"text":"Sentence 0. "}')
    expect(page.locator("#usage")).to_contain_text("dataset:corpus@1")
    page.goto(f"{server}/submit")
    expect(page.locator("#document")).to_have_text("Configuration")
    page.get_by_role("button", name="Example: MiniMind", exact=True).click()
    expect(page.locator("#document")).to_have_text("config.json")
    expect(page.locator(".cm-content")).to_contain_text("dataset:corpus@1")
    expect(page.locator("#check .verdict")).to_have_text("Ready to submit")
    expect(page.get_by_label("Fitting net")).to_be_hidden()
