"""A reproduction in a real Chromium: how far it is identical, followed while it runs, and then the verdict."""

import re

import numpy as np
import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect
from sqlalchemy.orm import Session

from app.artifacts.store import open_store
from app.auth import AttemptIdentity
from app.db import transaction
from app.jobs import metrics, reproduction
from app.settings import Settings
from app.tables import Attempt, Job
from tests.app.web.seeding import Seeded, add_worker, curves, encode, start

pytestmark = pytest.mark.browser

STEPS = 12_345
"""Of the job that is reproduced."""


def test_a_reproduction_is_followed_until_it_diverges(
    page: Page, server: str, content: Seeded, app: FastAPI, settings: Settings
) -> None:
    page.goto(f"{server}/jobs/{content.running}")
    page.get_by_role("button", name="Reproduce").click()
    page.wait_for_url(lambda url: url != f"{server}/jobs/{content.running}")
    new = int(page.url.rsplit("/", 1)[1])
    line = page.locator("#job-head .repeats")
    expect(line).to_contain_text(f"Reproduces job {content.running}: nothing to compare yet")
    with transaction(app.state.sessions) as session:
        worker = add_worker(session, "gpu-box:4712")
        start(session, open_store(settings), session.get_one(Job, new), worker, steps=0)
        train(session, new, 0, 1000)
    expect(line.locator(".repeat-identical-so-far")).to_have_text("identical so far (1,000 steps)")
    page.goto(f"{server}/jobs/{content.running}/diff/{new}")
    runs = page.locator("#runs")
    expect(runs.locator(".partings")).to_contain_text("nowhere")
    with transaction(app.state.sessions) as session:
        train(session, new, 1000, 2000, change_at=1241)
    expect(runs.locator(".parting")).to_contain_text("1,241")
    expect(runs.locator("#curve canvas")).to_be_visible()
    bits = runs.locator(".partings .hex").first
    expect(bits).to_be_hidden()
    page.get_by_label("exact bits").check()
    expect(bits).to_have_text(re.compile("^0x1"))
    page.goto(f"{server}/jobs")
    row = page.locator(f"#job-{new}")
    expect(row.locator(".repeat-diverged")).to_have_text("diverged at step 1,241")
    with transaction(app.state.sessions) as session:
        for job_id in (content.running, new):
            session.get_one(Job, job_id).state = "completed"
    assert reproduction.conclude(app.state.sessions, settings) == 1
    expect(row.locator(".repeats[data-follow]")).to_have_count(0)
    expect(row.locator(".repeat-diverged")).to_have_text("diverged at step 1,241")


def train(session: Session, job_id: int, first: int, last: int, *, change_at: int = 0) -> None:
    """Repeat steps of the running job after `first`, from `change_at` on with another loss."""
    job = session.get_one(Job, job_id)
    attempt = session.query(Attempt).filter(Attempt.job_id == job_id).one()
    columns = curves(STEPS, job.total_steps)
    if change_at:
        later = columns["train/loss"][change_at - 1 :]
        later *= 1 + np.minimum(1e-15 * 1.03 ** np.arange(len(later)), 0.1)
    part = {key: values[first:last] for key, values in columns.items()}
    metrics.ingest(session, AttemptIdentity(attempt.id, job_id, 1), first, encode(part))
    job.step = last
    job.version += 1
