"""Pages: every field is documented, every page renders from its dataclass alone, everything is escaped."""

import ast
import dataclasses
import inspect
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from app.web import tree, words
from app.web.bundle import Bundle
from app.web.histograms import draw
from app.web.pages import (
    PAGES,
    DatasetPage,
    DatasetsPage,
    ErrorPage,
    Filters,
    Frame,
    JobConfigPage,
    JobHistoryPage,
    JobLogPage,
    JobOverviewPage,
    JobsPage,
    LoginPage,
    MetricColumn,
    Page,
    SubmitPage,
    WorkersPage,
)
from app.web.render import TEMPLATES, environment
from app.wire.datasets import DatasetSummary, DatasetView, Range, SystemSummary
from app.wire.jobs import (
    AttemptView,
    Cause,
    CheckpointFile,
    CheckpointView,
    Event,
    JobDetail,
    JobSubmit,
    LosingCandidate,
    Origin,
    Progress,
)
from app.wire.problems import ErrorBody, Notice, Problem
from app.wire.system import WorkerView

EVIL = "<script>alert('x')</script>"
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

JOB = JobDetail(
    id=17,
    name=EVIL,
    kind="train",
    engine="deepmd",
    state="running",
    created_at=AT,
    started_at=AT,
    updated_at=AT,
    progress=Progress(
        step=1234, total_steps=4000, phase="training", steps_per_s=12.3456, eta_s=224, latest={"train/rmse_f": 0.0456}
    ),
    attempt=2,
    cause=Cause(failure="library", message=EVIL, step=3, hint=f"`{EVIL}`", detail=EVIL),
    tags=[EVIL],
    seed=42,
    determinism="seeded",
    digest="ab" * 32,
    submitted={"config": {"model": EVIL}},
    resolved={"model": {"rcut": 6.0, EVIL: EVIL}},
    origins={
        "/model/rcut": Origin(
            origin="explicit", note=EVIL, losing=[LosingCandidate(origin="default", value=9.0, source=EVIL)]
        ),
        tree.escape("/model/") + EVIL: Origin(origin="default"),
        "/model/" + tree.escape(EVIL): Origin(origin="explicit", ignored=EVIL),
    },
    seeds={EVIL: 7},
    warnings=[Notice(code="w", message=EVIL, pointer="/config/" + EVIL, hint=EVIL)],
    attempts=[
        AttemptView(
            number=1,
            state="lost",
            worker=EVIL,
            started_at=AT,
            ended_at=AT + timedelta(minutes=3),
            cause=Cause(failure="host-lost", message=EVIL),
            environment={"cpu": {"model": EVIL}},
        )
    ],
    datasets=[EVIL],
)
EVENT = Event(id=1, job_id=17, at=AT, kind="warning", message=EVIL, attempt=1)
CHECKPOINT = CheckpointView(
    id=5,
    job_id=17,
    attempt=1,
    step=1000,
    created_at=AT,
    files=[CheckpointFile(name=EVIL, role="checkpoint", sha256="cd" * 32, md5="ef" * 16, size=123456)],
)
DATASET = DatasetView(
    id=1,
    name="water",
    version=3,
    engine="deepmd",
    digest="12" * 32,
    size=10**9,
    created_at=AT,
    source=EVIL,
    warnings=[EVIL],
    summary=DatasetSummary(
        systems=[
            SystemSummary(name=EVIL, atoms=192, frames=320, elements={EVIL: 64}, type_map=[EVIL], labels=["energy"])
        ],
        frames=320,
        atoms=61440,
        elements=[EVIL],
        type_map=[EVIL],
        energy_per_atom_ev=Range(low=-156.1, high=-155.9),
        extra={"per_system": {EVIL: {"energy_per_atom_ev": [-156.1, -155.9]}}},
    ),
)
HISTOGRAM = draw("energy", "Energy per atom", "eV/atom", {"counts": [0, 3, 9, 1], "edges": [0.0, 1, 2, 3, 4]})
WORKER = WorkerView(
    id="w1",
    name=EVIL,
    host=EVIL,
    engines={"deepmd": EVIL},
    gpus=[{"name": EVIL, "memory_bytes": 2**34}],
    slots=2,
    busy_slots=1,
    drain=False,
    alive=True,
    jobs=[17],
    first_seen_at=AT,
    last_seen_at=AT,
)
FRAME_OF_JOB = {"job": JOB, "headline": ["train/rmse_f"]}

EXAMPLES: dict[type[Page], Page] = {
    JobsPage: JobsPage(
        jobs=[JOB],
        filters=Filters(q=EVIL, states=("failed",), tag=EVIL),
        columns=[MetricColumn("train/rmse_f", "F train", "eV/Å")],
        states=words.STATES,
        older="/jobs?cursor=abc",
        first_page=False,
        server="http://127.0.0.1:8765",
    ),
    JobOverviewPage: JobOverviewPage(
        **FRAME_OF_JOB,
        checkpoints=[CHECKPOINT],
        events=[EVENT],
        log=EVIL,
        log_size=30,
        board={"job": 17, "final": False, "words": {EVIL: {"title": EVIL, "unit": EVIL}}},
        learning_curve="lcurve.out",
    ),
    JobConfigPage: JobConfigPage(
        **FRAME_OF_JOB, rows=tree.rows(JOB.resolved, JOB.origins), counts=tree.counts(JOB.origins)
    ),
    JobLogPage: JobLogPage(**FRAME_OF_JOB, text=EVIL, size=30),
    JobHistoryPage: JobHistoryPage(**FRAME_OF_JOB, events=[EVENT]),
    SubmitPage: SubmitPage(
        engines=[("deepmd", "DeePMD-kit")],
        datasets=[DATASET],
        examples={"DeePMD-kit": EVIL},
        config=EVIL,
        options=JobSubmit(config={}, name=EVIL, tags=[EVIL]),
        copied_from=3,
    ),
    DatasetsPage: DatasetsPage(
        datasets=[DATASET], engines=[("deepmd", "DeePMD-kit"), (EVIL, EVIL)], older=None, max_upload_bytes=2**30
    ),
    DatasetPage: DatasetPage(dataset=DATASET, versions=[3, 2, 1], histograms=[HISTOGRAM] if HISTOGRAM else []),
    WorkersPage: WorkersPage(workers=[WORKER]),
    LoginPage: LoginPage(next=EVIL, problem=EVIL, hint=EVIL),
    ErrorPage: ErrorPage(
        status=422,
        error=ErrorBody(
            code="x", message=EVIL, hint=EVIL, problems=[Problem(code="x", message=EVIL, hint=EVIL, pointer=EVIL)] * 2
        ),
    ),
}
FRAME = Frame(
    bundle=Bundle(
        urls={name: f"/assets/{name}" for name in ("main.js", "theme.js", "style.css", "icon.svg")},
        preloads={"main.js": ["/assets/chunk.js"]},
        files=frozenset(),
    ),
    csrf="token",
    nonce="nonce",
    signed_in=True,
    version="1.2.3",
    address='/jobs?q="><script>',
)


def rendered(page: Page) -> str:
    return environment().get_template(page.template).render(page=page, frame=FRAME)


def test_every_page_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(PAGES)


@pytest.mark.parametrize("kind", PAGES, ids=lambda kind: kind.__name__)
def test_a_page_renders_from_its_dataclass_and_the_frame_alone(kind: type[Page]) -> None:
    html = rendered(EXAMPLES[kind])
    assert html.rstrip().endswith("</html>")
    assert html.count("<h1") == 1
    assert 'id="content"' in html


@pytest.mark.parametrize("kind", PAGES, ids=lambda kind: kind.__name__)
def test_a_page_escapes_whatever_people_and_trainers_wrote(kind: type[Page]) -> None:
    html = rendered(EXAMPLES[kind])
    assert "<script>" not in html
    assert "alert(" in html, "the example should have shown the hostile text somewhere"


@pytest.mark.parametrize("kind", [*PAGES, Frame, Filters, MetricColumn], ids=lambda kind: kind.__name__)
def test_every_field_of_a_page_is_documented(kind: type) -> None:
    documented = {name for base in kind.__mro__[:-1] for name in documented_names(base)}
    fields = {field.name for field in dataclasses.fields(kind)}
    assert fields <= documented, f"say in a docstring what these are: {sorted(fields - documented)}"


def documented_names(kind: type) -> set[str]:
    """Return the attributes of a class that a docstring follows."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    pairs = zip(body.body, body.body[1:], strict=False)
    return {
        first.target.id
        for first, second in pairs
        if isinstance(first, ast.AnnAssign)
        and isinstance(first.target, ast.Name)
        and isinstance(second, ast.Expr)
        and isinstance(second.value, ast.Constant)
    }


def test_templates_hold_no_inline_script_style_or_foreign_address() -> None:
    for path in TEMPLATES.glob("*.html"):
        text = path.read_text()
        assert " style=" not in text, f"{path.name}: the content security policy blocks style attributes"
        assert "http://" not in text.replace("http://www.w3.org", ""), path.name
        assert "https://" not in text, path.name
        assert " onclick=" not in text, path.name
        for line in text.splitlines():
            if "<script" in line:
                assert "src=" in line or 'type="application/json"' in line, f"{path.name}: {line}"


def test_every_command_that_pages_show_is_one() -> None:
    from app.cli.main import build

    overview = EXAMPLES[JobOverviewPage]
    assert isinstance(overview, JobOverviewPage)
    shown = {command for _, command in overview.commands}
    for path in TEMPLATES.glob("*.html"):
        shown |= set(re.findall(r"\bcairn [a-z][^<\n]*", path.read_text()))
    assert len(shown) > 8
    for line in shown:
        command, arguments = typer.main.get_command(build()), shlex.split(line, comments=True)[1:]
        while hasattr(command, "commands"):
            assert arguments[0] in command.commands, line
            command = command.commands[arguments.pop(0)]
        _, left, _ = command.make_parser(command.context_class(command)).parse_args(arguments)
        assert left == [], line


def test_every_template_is_used() -> None:
    used = {page.template for page in PAGES}
    shared = {"base.html", "job.html", "macros.html", "logo.html", "unbuilt.html"}
    assert {path.name for path in Path(TEMPLATES).glob("*.html")} == used | shared
