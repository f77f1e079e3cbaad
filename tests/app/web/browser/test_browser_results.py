"""What jobs that train nothing leave, in a real Chromium: a relaxation's trajectory, a test's plots and worst frames."""

from collections.abc import Mapping

import numpy as np
import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect
from sqlalchemy.orm import Session

from app.artifacts.service import record_blob
from app.artifacts.store import open_store
from app.auth import AttemptIdentity
from app.db import make_engine, transaction
from app.engines.deepmd.testing import QUANTITIES
from app.jobs import metrics
from app.settings import Settings
from app.tables import Attempt, Job, JobFile
from app.wire.measuring import (
    ErrorHistogram,
    ErrorPlots,
    ErrorReport,
    ErrorRow,
    ModelErrors,
    ModelPlots,
    ParityPlot,
    WorstFrame,
)
from app.wire.relaxing import RelaxedRun, RelaxReport
from tests.app.web.seeding import Seeded, encode

pytestmark = pytest.mark.browser

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


def leave(settings: Settings, job_id: int, kind: str, files: Mapping[str, str]) -> None:
    """Make a job one of another kind, which has left these files."""
    engine = make_engine(settings.effective_database_url)
    store = open_store(settings)
    with Session(engine) as session:
        job = session.get_one(Job, job_id)
        job.kind = kind
        for name, text in files.items():
            blob = record_blob(session, store, store.keep_bytes(text.encode()))
            session.add(JobFile(job_id=job.id, name=name, media_type="text/plain", blob_sha256=blob.sha256))
        session.commit()
    engine.dispose()


@pytest.fixture
def relaxed(settings: Settings, content: Seeded) -> int:
    """A job that has relaxed two structures."""
    files = {"relax.json": REPORT.model_dump_json(), "trajectory.extxyz": FRAMES}
    leave(settings, content.completed, "relax", files)
    return content.completed


def plot(title: str, unit: str, width: float, error: float) -> ParityPlot:
    """Return a parity plot of 2,000 numbers that differ by about `error`, a few of them far off."""
    generator = np.random.default_rng(4)
    labels = generator.normal(0, width, 2000)
    errors = generator.standard_t(3, 2000) * error
    counts, _ = np.histogram(errors, bins=40, range=(-6 * error, 6 * error))
    points = [
        (float(label), float(label + off), 1 + index % 12)
        for index, (label, off) in enumerate(zip(labels, errors, strict=True))
    ]
    histogram = ErrorHistogram(half=6 * error, counts=counts.tolist())
    return ParityPlot(title=title, unit=unit, count=2000, points=points, histogram=histogram)


def worst(frame: int, error: float) -> WorstFrame:
    return WorstFrame(
        system="water@2/md-330K", frame=frame, atoms=192, by=["force"], energy_error_per_atom=error / 900, force_rmse=error,
        largest_force_error=error * 4, atom=17, element="O",
    )  # fmt: skip


@pytest.fixture
def tested(settings: Settings, content: Seeded) -> int:
    """A job that has measured a model."""
    errors = {"rmse_ea": 4.1e-4, "mae_ea": 3.2e-4, "rmse_f": 0.0431, "mae_f": 0.0312, "rmse_va": 0.0021}
    model = ModelErrors(
        model="job:1@20000", sha256="a" * 64, overall=errors, worst_file="worst.extxyz",
        systems=[ErrorRow(name=f"water@2/md-{one}K", frames=620, atoms=192, errors=errors) for one in (300, 330)],
        elements=[ErrorRow(name=one, atoms=79_360, errors={"rmse_f": 0.05, "mae_f": 0.03}) for one in ("H", "O")],
        worst=[worst(frame, 0.4 - frame / 5000) for frame in (171, 502, 36)],
    )  # fmt: skip
    data = ["dataset:water@2/md-300K", "dataset:water@2/md-330K"]
    report = ErrorReport(
        library="deepmd-kit 3.2.0", data=data, quantities=list(QUANTITIES), models=[model], plots_file="plots.json"
    )
    drawn = [
        plot("Energy", "eV/atom", 0.02, 4e-4),
        plot("Force components", "eV/Å", 1.1, 0.04),
        plot("Virial components", "eV/atom", 0.1, 2e-3),
    ]
    plots = ErrorPlots(models=[ModelPlots(model=model.model, plots=drawn)])
    files = {"test.json": report.model_dump_json(), "plots.json": plots.model_dump_json(), "worst.extxyz": FRAMES}
    leave(settings, content.completed, "test", files)
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


def test_what_says_only_how_far_a_job_is_has_no_chart(page: Page, server: str, content: Seeded, app: FastAPI) -> None:
    frames = np.arange(1, 30)
    measured = {"step": frames, "relax/fmax": 1 / frames, "relax/run": np.ones(29)}
    with transaction(app.state.sessions) as session:
        attempt = session.query(Attempt).filter(Attempt.job_id == content.running).one()
        metrics.ingest(session, AttemptIdentity(attempt.id, content.running, 1), 10**6, encode(measured))
    page.goto(f"{server}/jobs/{content.running}")
    expect(page.locator("figure[data-panel=fmax]")).to_have_count(1)
    expect(page.locator("figure[data-panel=run]")).to_have_count(0)


def test_errors_are_drawn_and_the_worst_frames_downloaded(tested: int, page: Page, server: str) -> None:
    page.goto(f"{server}/jobs/{tested}")
    errors = page.locator("#errors")
    expect(errors.locator("figure.parity")).to_have_count(3)
    for figure in errors.locator("figure.parity").all():
        square, spread = figure.locator("svg").first.bounding_box(), figure.locator("svg.spread").bounding_box()
        assert square["width"] > 150, "large enough to be read"
        assert spread["y"] > square["y"] + square["height"], "the histogram is below"
        assert figure.locator("path.dots").count() == 3
        assert figure.locator("svg.spread rect").count() > 20
    rows = errors.get_by_role("region", name="Worst frames of").locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("O 17")
    with page.expect_download() as download:
        errors.get_by_role("link", name="worst.extxyz").click()
    assert download.value.path().read_text() == FRAMES
