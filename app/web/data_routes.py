"""Datasets and workers."""

from collections.abc import Iterable
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.auth import CurrentUser
from app.datasets import service as datasets
from app.db import ReadSession
from app.engines import registry
from app.fleet import service as fleet
from app.jobs.service import engine_view
from app.web import histograms
from app.web.histograms import Histogram
from app.web.pages import DatasetPage, DatasetsPage, WorkersPage
from app.web.render import render
from app.wire.datasets import DatasetSummary
from app.wire.system import EngineView

router = APIRouter(include_in_schema=False)


@router.get("/datasets")
def show_datasets(request: Request, _: CurrentUser, session: ReadSession, cursor: str | None = None) -> Response:
    """The datasets and the upload form."""
    found = datasets.listed(session, cursor=cursor or None)
    page = DatasetsPage(
        datasets=found.items,
        engines=engines(),
        older=f"/datasets?cursor={quote(found.next_cursor)}" if found.next_cursor else None,
        max_upload_bytes=request.app.state.settings.max_upload_bytes,
        forms=sorted({form for engine in registry.ENGINES for form in engine.data_words.asked_for}),
        commands=[engine.data_words.command for engine in registry.ENGINES],
    )
    return render(request, page)


def engines() -> list[EngineView]:
    """Return every engine there is."""
    return [engine_view(engine) for engine in registry.ENGINES]


@router.get("/datasets/{ref}")
def show_dataset(request: Request, _: CurrentUser, session: ReadSession, ref: str) -> Response:
    """One version of a dataset; without a version in the address, the newest."""
    dataset = datasets.view(datasets.get(session, ref))
    engine = registry.get(dataset.engine)
    kinds = engine.tasks.items() if engine and dataset.summary.structures else ()
    of_that_name = datasets.listed(session, name=dataset.name, limit=200).items
    page = DatasetPage(
        dataset=dataset,
        versions=[other.version for other in of_that_name if other.name == dataset.name],
        relaxes=[(kind, task.title) for kind, task in kinds if task.relaxed],
        histograms=list(drawings(dataset.summary)),
    )
    return render(request, page)


def drawings(summary: DatasetSummary) -> Iterable[Histogram]:
    """Yield the histograms that a summary has the counts of."""
    wanted = (
        ("energy", "Energy per atom", "eV/atom", "energy_per_atom_histogram"),
        ("force", "Force on an atom", "eV/Å", "force_histogram"),
    )
    for kind, title, unit, key in wanted:
        drawn = histograms.draw(kind, title, unit, summary.extra.get(key))
        if drawn is not None:
            yield drawn
    if summary.text is not None:
        what = "a document" if summary.text.documents else "a conversation"
        yield from filter(None, [histograms.draw("length", f"Length of {what}", "characters", summary.text.lengths)])


@router.get("/workers")
def show_workers(request: Request, _: CurrentUser, session: ReadSession) -> Response:
    """The workers, those that are alive first."""
    workers = sorted(fleet.listed(session, request.app.state.settings), key=lambda worker: not worker.alive)
    return render(request, WorkersPage(workers=workers, names=fleet.job_names(session, workers)))
