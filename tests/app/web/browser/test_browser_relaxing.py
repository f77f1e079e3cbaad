"""A relaxation's trajectory in a real Chromium: drawn in three dimensions, played, and kept while the page is swapped."""

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy.orm import Session

from app.artifacts.service import record_blob
from app.artifacts.store import open_store
from app.db import make_engine
from app.settings import Settings
from app.tables import Job, JobFile
from app.wire.relaxing import RelaxedRun, RelaxReport
from tests.app.web.seeding import Seeded

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

FRAMES = "".join(
    f'2\nLattice="6 0 0 0 6 0 0 0 6" Properties=species:S:1:pos:R:3:forces:R:3 energy=-{step}.5 pbc="T T T"\n'
    f"Cu 1 1 1 0 0 0.5\nCu 1 1 {3.5 - step / 10} 0 0 -0.5\n"
    for step in range(5)
)
RUN = RelaxedRun(
    name="pair", model="job:1@200", structure="pair", start=1, outcome="converged", steps=4, first_frame=0, frames=5, atoms=2,
    formula="Cu2", energy=-4.5, energy_per_atom=-2.25, fmax=0.01, digest="d" * 64,
)  # fmt: skip
REPORT = RelaxReport(
    library="deepmd-kit 3.2.0", optimizer="LBFGS", fmax=0.05, cell="fixed", form="checkpoint", threads=1, structures=[],
    runs=[RUN, RUN.model_copy(update={"name": "far", "first_frame": 3, "frames": 2})], trajectory="trajectory.extxyz",
)  # fmt: skip


@pytest.fixture
def relaxed(settings: Settings, content: Seeded) -> int:
    """A job that has relaxed two structures."""
    engine = make_engine(settings.effective_database_url)
    store = open_store(settings)
    with Session(engine) as session:
        job = session.get_one(Job, content.completed)
        job.kind = "relax"
        for name, text in (("relax.json", REPORT.model_dump_json()), ("trajectory.extxyz", FRAMES)):
            blob = record_blob(session, store, store.keep_bytes(text.encode()))
            session.add(JobFile(job_id=job.id, name=name, media_type="text/plain", blob_sha256=blob.sha256))
        session.commit()
    engine.dispose()
    return content.completed


def test_a_trajectory_is_drawn_and_played(relaxed: int, page: Page, server: str, faults: list[str]) -> None:
    page.goto(f"{server}/jobs/{relaxed}")
    expect(page.locator("#relaxed tbody tr").first).to_contain_text("-4.500000")
    page.get_by_role("button", name="Show the trajectory").click()
    view = page.locator("#structure-view")
    expect(view.locator("canvas")).to_be_visible()
    expect(view.locator("output")).to_have_text("frame 0 of 4 · -0.500000 eV")
    view.get_by_role("button", name="Play").click()
    expect(view.locator("output")).to_have_text("frame 4 of 4 · -4.500000 eV")
    page.get_by_role("button", name="far").click()
    expect(view.locator("output")).to_have_text("frame 0 of 1 · -3.500000 eV")
    # What the software renderer of a machine without a GPU says about its own speed.
    faults[:] = [fault for fault in faults if "GPU stall due to ReadPixels" not in fault]
