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

from app.groups import statistics
from app.web import data_routes, jobs_routes, plan, render, seeds, tensors, tree, words
from app.web.bundle import Bundle
from app.web.histograms import draw
from app.web.pages import (
    PAGES,
    PARTS,
    Architecture,
    CheckPart,
    ComparePage,
    Control,
    DatasetPage,
    DatasetsPage,
    ErrorPage,
    Filters,
    Frame,
    GroupsPage,
    JobConfigPage,
    JobHistoryPage,
    JobLogPage,
    JobOverviewPage,
    JobSeedsPage,
    JobsPage,
    JobTransferPage,
    LoginPage,
    MetricColumn,
    ModelPage,
    ModelsPage,
    Offer,
    Page,
    ReplicasPage,
    SubmitPage,
    WorkersPage,
)
from app.web.parity import plotted
from app.web.render import TEMPLATES, environment
from app.wire.checkpoints import CheckpointFile, CheckpointView
from app.wire.comparison import (
    Comparison,
    Difference,
    Divergence,
    EnvironmentDifference,
    FingerprintPair,
    MetricDifference,
    MetricValue,
    Side,
    UnevenMetric,
)
from app.wire.datasets import (
    DatasetContents,
    DatasetListed,
    DatasetSummary,
    DatasetView,
    Distances,
    Histogram,
    Range,
    StructureSummary,
    SystemSummary,
    TextFile,
    TextSummary,
    TokenizerSummary,
)
from app.wire.groups import GroupDetail, GroupView
from app.wire.jobs import AttemptView, Cause, Event, Exactness, JobDetail, JobFile, Progress, UsedModel
from app.wire.measuring import (
    ErrorHistogram,
    ErrorReport,
    ErrorRow,
    Measured,
    MeasuredPair,
    ModelErrors,
    ModelPlots,
    ParityPlot,
    Quantity,
    WorstFrame,
)
from app.wire.metrics import panel_of
from app.wire.models import BaseFacts, BranchFacts, ModelDetail, ModelView, TensorFacts
from app.wire.problems import ErrorBody, Notice, Problem
from app.wire.provenance import JobDiff, LeafDifference
from app.wire.relaxing import CheckedStructure, Finding, Minimum, RelaxedRun, RelaxReport, Repeat
from app.wire.resolution import Check, CostHints, LosingCandidate, Origin, TwinFile, WeightCheck
from app.wire.submission import JobSubmit, Start
from app.wire.system import EngineView, WorkerView
from app.wire.transfer import AxisMap, ComponentShare, FunctionChange, PlannedTensor, TransferPlan

EVIL = "<script>alert('x')</script>"
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

PLANNED = PlannedTensor(
    name=EVIL,
    verb="remapped",
    component=EVIL,
    branch=EVIL,
    shape=[2, -1],
    dtype="float64",
    source="another",
    source_shape=[3, 4],
    kept=1,
    maps=[AxisMap(axis=0, indices=[1, -1])],
    reason=EVIL,
    key=f"/model/{EVIL}",
    aliases=[EVIL],
)
PLAN = TransferPlan(
    base=EVIL,
    sha256="ab" * 32,
    mode="finetune",
    tensors=[PLANNED, PLANNED.model_copy(update={"reason": None, "key": None})],
    components=[ComponentShare(component=EVIL, parameters=8, kept=1)],
    parameters=8,
    kept=1,
    counts={"remapped": 2},
    function_changes=[FunctionChange(pointer=EVIL, base=EVIL, value=EVIL, message=EVIL)],
)
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
    reproduces=3,
    reproduction="diverged",
    start_mode="finetune",
    start=Start(mode="finetune", base=EVIL, branch={EVIL: EVIL}, fitting={EVIL: "new"}, allow=[EVIL]),
    base=EVIL,
    base_sha256="ab" * 32,
    plan=PLAN,
    inheritance=[EVIL],
    group=4,
    replica=2,
    continues=3,
    exactness=Exactness(exact=False, reasons=[EVIL], proof=[EVIL]),
    weight_check=WeightCheck(
        identity="ab" * 32,
        policy="resume",
        twins={3: "failed"},
        checkpoints=[TwinFile(job=3, step=900, intact=False, problem=EVIL), TwinFile(job=3, step=800, intact=True)],
        decision="resume",
        summary=EVIL,
    ),
    files=[JobFile(name=EVIL, media_type="text/plain", sha256="cd" * 32, md5="ef" * 16, size=1234)],
)
EVENT = Event(id=1, job_id=17, at=AT, kind="warning", message=EVIL, attempt=1)
SAMPLE = EVENT.model_copy(update={"kind": "sample", "data": {"step": 1200, "prompt": EVIL, "text": EVIL}})
AUDIT = EVENT.model_copy(
    update={
        "kind": "audit",
        "data": {
            EVIL: {"key": f"/model/{EVIL}", "seed": 7, "sha256": "ab" * 32, "verdict": "own-seed"},
            "model.fitting_net": {"key": "/model/fitting_net/seed", "seed": 8, "sha256": None, "verdict": EVIL},
        },
    }
)
LOGGED = seeds.generator_rows([EVENT.model_copy(update={"data": {"step": 1000, "generators": {EVIL: "ab" * 32}}})])
CHECKPOINT = CheckpointView(
    id=5,
    job_id=17,
    attempt=1,
    step=1000,
    created_at=AT,
    files=[CheckpointFile(name=EVIL, role="checkpoint", sha256="cd" * 32, md5="ef" * 16, size=123456)],
)
CONTENTS = [
    DatasetContents(elements=[EVIL], systems=1, frames=320),
    DatasetContents(elements=[EVIL], structures=2, frames=2),
    DatasetContents(files=2, documents=3, characters=40),
    DatasetContents(files=1, conversations=3, characters=40),
    DatasetContents(tokenizer=EVIL, tokens=2000),
]
LISTED = DatasetListed(
    id=1,
    name="water",
    version=3,
    engine="deepmd",
    digest="12" * 32,
    size=10**9,
    created_at=AT,
    source=EVIL,
    warnings=[EVIL],
    contents=CONTENTS[0],
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
        distances={
            EVIL: Distances(cutoff=6.0, frames=200, nearest={EVIL: 0.9312, "O-O": 2.5}, farthest={EVIL: 1.1}),
            "other": Distances(cutoff=6.0, frames=60, nearest={"O-O": 2.4567}, farthest={EVIL: None}),
        },
        extra={"per_system": {EVIL: {"energy_per_atom_ev": [-156.1, -155.9]}}},
    ),
)
HISTOGRAM = draw("energy", "Energy per atom", "eV/atom", {"counts": [0, 3, 9, 1], "edges": [0.0, 1, 2, 3, 4]})
WORKER = WorkerView(
    id="w1",
    name=EVIL,
    host=EVIL,
    engines={"deepmd": EVIL},
    gpus=[
        {"index": 0, "name": EVIL, "memory_bytes": 2**34},
        {"index": 1, "name": EVIL, "memory_bytes": 2**34, "memory_used_bytes": 2**33, "utilisation": 97},
    ],
    slots=2,
    busy_slots=1,
    drain=False,
    alive=True,
    jobs=[17],
    first_seen_at=AT,
    last_seen_at=AT,
)
SILENT = WORKER.model_copy(
    update={"alive": False, "jobs": [99], "gpus": [{"index": 0, "name": EVIL, "error": EVIL}], "versions": {EVIL: EVIL}}
)
STOPPED = SILENT.model_copy(update={"stopped": True})
FACTS = BaseFacts(
    engine="deepmd",
    form=EVIL,
    architecture=EVIL,
    library=EVIL,
    branches=[BranchFacts(name=EVIL, type_map=[EVIL], model={EVIL: {EVIL: EVIL}}, parameters=8)],
    tensors=[
        TensorFacts(name=EVIL, shape=[2, 4], dtype=EVIL, sha256="cd" * 32),
        TensorFacts(name=f"{EVIL}2", shape=[2, 4], dtype=EVIL, alias_of=EVIL),
    ],
    parameters=8,
    step=10,
    seed=3,
    warnings=[Notice(code="w", message=EVIL, hint=EVIL)],
)
MODEL = ModelView(
    id=4,
    name="water",
    version=3,
    engine="deepmd",
    state="refused",
    sha256="12" * 32,
    md5="34" * 16,
    size=10**8,
    file_name=EVIL,
    source=EVIL,
    job_id=17,
    created_at=AT,
    architecture=EVIL,
    type_map=[EVIL] * 13,
    branches=[EVIL],
    problem=Problem(code="p", message=EVIL, hint=EVIL),
)
LINES = tensors.rows(FACTS.tensors, lambda name: f"part of {name}")
DIFFERENCE = LeafDifference(
    pointer=EVIL,
    left=EVIL,
    right=None,
    left_origin=Origin(origin="base", source=EVIL, ignored=EVIL),
)
FRAME_OF_JOB = {
    "version": 7,
    "job": JOB,
    "headline": ["train/rmse_f"],
    "summary": f"diverged at step 7: {EVIL}",
    "other_version": (EVIL, EVIL, EVIL),
}
VALUE = MetricValue(hex=EVIL, decimal="0.10000000000000001")
SIDE = Side(job=17, name=EVIL, state="running", step=1234, total_steps=4000)
PLAIN = [Difference(pointer=EVIL, left=EVIL, only="left"), Difference(pointer=EVIL, left=EVIL, right=EVIL)]
ENVIRONMENTS = EnvironmentDifference(left_job=17, left_attempt=1, right_job=17, right_attempt=2, differences=PLAIN)
PAIR = FingerprintPair(stage="checkpoint", step=1000, left=EVIL, right="cd" * 32)
RUNS = Comparison(
    left=SIDE,
    right=SIDE,
    verdict="diverged",
    summary=f"diverged at step 7: {EVIL}",
    steps=6,
    last_step=6,
    metrics=[EVIL, "lr"],
    divergence=Divergence(key=EVIL, step=7, left=VALUE, right=VALUE, keys=2),
    first_differences=[MetricDifference(key=EVIL, step=7, left=VALUE, right=VALUE)],
    only_left=[EVIL],
    only_right=[EVIL],
    uneven=[UnevenMetric(key=EVIL, left=1, right=2)],
    checkpoints=3,
    beginning=[FingerprintPair(stage="init", left="ab" * 32, right="ab" * 32)],
    fingerprint=PAIR,
    generators=FingerprintPair(stage="generators", step=1000, generator=EVIL, left=EVIL, right="cd" * 32),
    spec=PLAIN,
    environment=ENVIRONMENTS,
    moves=[ENVIRONMENTS],
)

GROUP = GroupDetail(
    id=4,
    name=EVIL,
    engine="deepmd",
    seed=42,
    size=3,
    created_at=AT,
    states={"running": 2, "paused": 1},
    step=100,
    total_steps=4000,
    jobs=[JOB, JOB.model_copy(update={"id": 18, "replica": 3}), JOB.model_copy(update={"id": 19, "replica": None})],
    summary=[
        statistics.summary("lr", {17: 1e-3, 18: 1e-3}),
        statistics.summary("val/rmse_e", {17: 0.002}),
        statistics.summary("train/rmse_f", {17: 0.05, 18: None}),
    ],
    tasks=[JOB.model_copy(update={"id": 20, "kind": "model-devi"})],
)

ENGINE = EngineView(
    name="deepmd",
    title=EVIL,
    library=EVIL,
    version="1",
    document=EVIL,
    data=EVIL,
    weights=EVIL,
    has_fitting=True,
    metrics={},
    headline=["train/loss"],
    learning_curve_name="lcurve.out",
)
CORPUS = DATASET.model_copy(
    update={
        "summary": DatasetSummary(
            text=TextSummary(
                files=[TextFile(name=EVIL, form="text", entries=3, characters=30, size=40, samples=[EVIL])],
                documents=3, conversations=0, turns=0, characters=30, size=40,
                lengths=Histogram(edges=[8.0, 16.0, 32.0], counts=[1, 2]),
            )
        ),
        "usage": EVIL,
    }
)  # fmt: skip
TOKENIZER = DATASET.model_copy(
    update={
        "summary": DatasetSummary(
            tokenizer=TokenizerSummary(
                model=EVIL, vocab_size=6400, special_tokens={EVIL: 0}, roles={EVIL: EVIL}, has_chat_template=False,
                digest="ab" * 32,
            )
        )
    }
)  # fmt: skip
STRUCTURES = DATASET.model_copy(
    update={
        "summary": DatasetSummary(
            structures=[
                StructureSummary(
                    name="h2", atoms=2, formula=EVIL, elements=["H"], periodic=False,
                    findings=[Finding(code="atoms-overlap", message=f"atoms 0 and 1 {EVIL}", refused=True)],
                )
            ],
        )
    }
)  # fmt: skip
QUANTITY = Quantity(key="rmse_f", title=EVIL, unit=EVIL, headline=True)
ROW = ErrorRow(name=EVIL, frames=3, atoms=8, errors={"rmse_f": 0.1234})
WORST = WorstFrame(
    system=EVIL, frame=2, atoms=8, by=["force"], force_rmse=0.5, largest_force_error=0.9, atom=1, element=EVIL
)
REPORT = ErrorReport(
    library=EVIL,
    data=[EVIL],
    quantities=[QUANTITY, Quantity(key="rmse_va", title="Virial RMSE")],
    models=[
        ModelErrors(
            model=EVIL, sha256="0" * 64, overall={"rmse_f": None}, systems=[ROW, ROW], elements=[ROW], worst=[WORST],
            worst_file=EVIL,
        )
    ],
)  # fmt: skip
PLOT = ParityPlot(
    title=EVIL, unit=EVIL, count=14, not_finite=1, points=[(0.0, 0.1, 1), (2.0, 1.9, 13)],
    histogram=ErrorHistogram(half=0.2, counts=[1, 13]),
)  # fmt: skip
PLOTS = ModelPlots(model=EVIL, plots=[PLOT])
MEASURED = Measured(
    job=31, name=EVIL, state="completed", step=400, data=[EVIL], data_digest="d", quantities=[QUANTITY],
    errors={"rmse_f": 0.2},
)  # fmt: skip

RELAXED = RelaxReport(
    library=EVIL, optimizer="LBFGS", fmax=0.05, cell="fixed", form="checkpoint", threads=1, trajectory="trajectory.extxyz",
    structures=[
        CheckedStructure(
            name=EVIL, atoms=2, formula="H2",
            findings=[Finding(code="atoms-overlap", message=EVIL, refused=True, atoms=[0, 1], distance=0.34)],
        )
    ],
    runs=[
        RelaxedRun(
            name=name, model=EVIL, structure=EVIL, start=1, outcome=outcome, steps=4, first_frame=0, frames=5, atoms=2,
            formula="H2", energy=energy, energy_per_atom=energy, fmax=0.04, digest="d" * 64,
        )
        for name, outcome, energy in ((EVIL, "converged", -1.5), ("h2.2", "not-finite", None))
    ],
    minima=[Minimum(model=EVIL, formula="H2", rank=1, energy=-1.5, above=0.0, runs=[EVIL])],
    repeats=[
        Repeat(how="in a fresh process", identical=True, frames=5, positions=0, energy=0, forces=0),
        Repeat(how="with 2 threads", identical=False, frames=5, positions=2e-9, energy=1e-12, forces=0, parts_in=EVIL, parts_at=3),
    ],
)  # fmt: skip
FROZEN = EVENT.model_copy(
    update={
        "kind": "frozen",
        "data": {"file": EVIL, "sha256": "0" * 64, "model": EVIL, "model_sha256": "1" * 64, "head": EVIL}
        | {"type_map": [EVIL], "library": EVIL, "torch": EVIL},
    }
)

EXAMPLES: dict[type[Page], Page] = {
    JobsPage: JobsPage(
        jobs=[JOB],
        summaries={17: f"diverged at step 7: {EVIL}"},
        filters=Filters(q=EVIL, states=("failed",), tag=EVIL, where=EVIL),
        problems=[Problem(code="bad-search", message=EVIL, hint=EVIL)],
        columns=[MetricColumn("train/rmse_f", "F train", "eV/Å")],
        states=words.STATES,
        older="/jobs?cursor=abc",
        first_page=False,
        server="http://127.0.0.1:8765",
        commands=[EVIL],
    ),
    JobOverviewPage: JobOverviewPage(
        **FRAME_OF_JOB,
        report=REPORT,
        plots=[plotted(PLOTS)],
        tests=[MEASURED, MEASURED.model_copy(update={"step": 200, "errors": {"rmse_f": 0.7}})],
        testable=True,
        frozen=[FROZEN],
        relaxed=RELAXED,
        checkpoints=[CHECKPOINT],
        events=[EVENT],
        log=EVIL,
        log_size=30,
        board={"job": 17, "axis": "step", "final": False, "words": {EVIL: {"title": EVIL, "unit": EVIL}}},
        learning_curve="lcurve.out",
        samples=[SAMPLE],
        exports={".pth": EVIL},
    ),
    JobConfigPage: JobConfigPage(
        **FRAME_OF_JOB, rows=tree.rows(JOB.resolved, JOB.origins), counts=tree.counts(JOB.origins)
    ),
    JobTransferPage: JobTransferPage(**FRAME_OF_JOB, parts=plan.parts(PLAN)),
    ComparePage: ComparePage(
        left=JOB,
        right=JOB,
        diff=JobDiff(left=17, right=17, same_training=True, values=[DIFFERENCE], origins=[DIFFERENCE]),
        runs=RUNS,
        tests=[MeasuredPair(left=MEASURED, right=MEASURED)],
    ),
    JobSeedsPage: JobSeedsPage(
        **FRAME_OF_JOB,
        audit=AUDIT,
        rows=seeds.rows(JOB.seeds, AUDIT),
        logged=LOGGED,
        generators=seeds.generators(LOGGED),
    ),
    GroupsPage: GroupsPage(groups=[GroupView(**dict(GROUP))], older="/groups?cursor=abc"),
    ReplicasPage: ReplicasPage(
        group=GROUP,
        headline=["train/rmse_f"],
        datasets=[DATASET],
        offers=[("model-devi", "Model deviation")],
        board={"group": 4, "final": False, "replicas": [17], "words": {EVIL: {"title": EVIL, "unit": EVIL}}},
    ),
    JobLogPage: JobLogPage(**FRAME_OF_JOB, text=EVIL, size=30),
    JobHistoryPage: JobHistoryPage(**FRAME_OF_JOB, events=[EVENT]),
    SubmitPage: SubmitPage(
        engines=[ENGINE],
        datasets=[DATASET],
        bases=[Offer(EVIL, EVIL, [EVIL])],
        examples={"deepmd": {EVIL: EVIL}},
        longer={"deepmd": EVIL},
        config=EVIL,
        options=JobSubmit(config={}, name=EVIL, tags=[EVIL], start=JOB.start),
        copied_from=3,
    ),
    DatasetsPage: DatasetsPage(
        datasets=[LISTED.model_copy(update={"contents": contents}) for contents in CONTENTS],
        engines=[ENGINE, ENGINE],
        older=None,
        max_upload_bytes=2**30,
        forms=[EVIL],
        commands=[EVIL],
    ),
    DatasetPage: DatasetPage(
        dataset=STRUCTURES, versions=[3, 2, 1], relaxes=[(EVIL, EVIL)], histograms=[HISTOGRAM] if HISTOGRAM else []
    ),
    ModelsPage: ModelsPage(models=[MODEL], engines=[ENGINE, ENGINE], older=None, max_upload_bytes=2**30),
    ModelPage: ModelPage(
        model=ModelDetail(**dict(MODEL), facts=FACTS, used_by=[17]),
        versions=[3, 2],
        architectures=[Architecture(FACTS.branches[0], tree.rows(FACTS.branches[0].model, {}))],
        tensors=LINES,
        components=tensors.components(LINES),
    ),
    WorkersPage: WorkersPage(workers=[WORKER, SILENT, STOPPED], names={17: EVIL}),
    LoginPage: LoginPage(next=EVIL, problem=EVIL, hint=EVIL),
    ErrorPage: ErrorPage(
        status=422,
        error=ErrorBody(
            code="x", message=EVIL, hint=EVIL, problems=[Problem(code="x", message=EVIL, hint=EVIL, pointer=EVIL)] * 2
        ),
    ),
}
CHECK = Check(
    engine="deepmd",
    config=JOB.resolved,
    origins=JOB.origins,
    digest="ab" * 32,
    seed=1,
    seeds={},
    total_steps=10,
    warnings=JOB.warnings,
    start=JOB.start,
    base=EVIL,
    base_sha256="ab" * 32,
    plan=PLAN,
    inheritance=[EVIL],
    hints=CostHints(steps=10, frames=3, parameters=8, checkpoint_bytes=1000),
)
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


CHECK_PART = CheckPart(
    check=CHECK,
    rows=tree.rows(CHECK.config, CHECK.origins),
    counts=tree.counts(CHECK.origins),
    parts=plan.parts(PLAN),
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


@pytest.mark.parametrize(
    "kind", [*PAGES, *PARTS, Control, Frame, Filters, MetricColumn, Offer, Architecture], ids=lambda kind: kind.__name__
)
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


def test_the_check_is_part_of_a_page_and_escapes_as_one() -> None:
    assert (CheckPart,) == PARTS
    for check in (CHECK, CHECK.model_copy(update={"plan": None, "plan_pending": EVIL})):
        html = render.rendered(dataclasses.replace(CHECK_PART, check=check))
        assert "<script>" not in html
        assert "alert(" in html
        assert 'id="verdict"' in html
        assert 'id="outcome"' in html


@pytest.mark.parametrize("state", ["checking", "failed"])
@pytest.mark.parametrize("mode", ["scratch", "finetune", "resume"])
def test_a_job_without_a_plan_says_why(state: str, mode: str) -> None:
    job = JOB.model_copy(update={"state": state, "start": Start(mode=mode), "base": None, "plan": None})
    said = {
        "checking": "Waiting for a worker to list",
        "scratch": "started from seeds",
        "resume": "is restored whole",
        "finetune": "No plan was made",
    }
    html = rendered(JobTransferPage(job=job, version=7, headline=[], summary=None, other_version=None, parts=[]))
    assert said[state if state == "checking" else mode] in html


def test_a_job_that_was_never_run_cannot_be_reproduced() -> None:
    page = EXAMPLES[JobHistoryPage]
    assert isinstance(page, JobHistoryPage)
    assert 'data-open="#reproduce"' in rendered(page), "the version is another: asked first"
    same = dataclasses.replace(page, other_version=None)
    assert 'action="/jobs/17/reproduce"' in rendered(same)
    never = dataclasses.replace(same, job=JOB.model_copy(update={"attempt": 0}))
    assert "reproduce" not in rendered(never)


@pytest.mark.parametrize(
    ("state", "offered"),
    [
        ("running", {"pause"}),
        ("queued", {"pause"}),
        ("checking", {"pause"}),
        ("paused", {"resume", "extend"}),
        ("failed", {"retry", "extend"}),
        ("cancelled", {"retry", "extend"}),
        ("completed", {"extend"}),
        ("stopping", set()),
    ],
)
def test_a_job_offers_what_its_state_allows(state: str, offered: set[str]) -> None:
    page = EXAMPLES[JobHistoryPage]
    assert isinstance(page, JobHistoryPage)
    html = rendered(dataclasses.replace(page, job=JOB.model_copy(update={"state": state})))
    assert set(re.findall(r'data-call="POST /api/v1/jobs/17/(\w+)"', html)) == offered


def test_what_would_fail_again_is_retried_only_by_force() -> None:
    page = EXAMPLES[JobHistoryPage]
    assert isinstance(page, JobHistoryPage)
    for failure, forced in (("library", False), ("data", True)):
        cause = Cause.model_validate({"failure": failure, "message": "no frames"})
        html = rendered(dataclasses.replace(page, job=JOB.model_copy(update={"state": "failed", "cause": cause})))
        assert ("&#34;force&#34;: true" in html) == forced


def test_a_job_that_trains_nothing_is_not_offered_more_steps_or_a_copy() -> None:
    page = EXAMPLES[JobHistoryPage]
    assert isinstance(page, JobHistoryPage)
    job = JOB.model_copy(update={"state": "completed", "kind": "model-devi"})
    html = rendered(dataclasses.replace(page, job=job))
    assert "/extend" not in html
    assert "/submit?from=17" not in html
    assert "Model deviation" in html


def test_a_job_has_tabs_for_what_its_kind_has() -> None:
    page = EXAMPLES[JobHistoryPage]
    assert isinstance(page, JobHistoryPage)
    told = {"transfer", "seeds"}
    for kind, held, expected in (
        ("train", {}, told),
        ("relax", {"starts": 3}, {"seeds"}),
        ("freeze", {}, set()),
    ):
        job = JOB.model_copy(update={"kind": kind, "seeds": held})
        tabs = dataclasses.replace(page, job=job).tabs
        assert {tab.name for tab in tabs} & told == expected


def test_of_many_warnings_the_first_are_shown_and_the_others_there_to_unfold() -> None:
    page = EXAMPLES[JobHistoryPage]
    assert isinstance(page, JobHistoryPage)
    warnings = [Notice(code="w", message=f"number {number} of all") for number in range(7)]
    html = rendered(dataclasses.replace(page, job=JOB.model_copy(update={"warnings": warnings})))
    before, after = html.split("3 more warnings")
    assert [before.count("of all"), after.count("of all")] == [4, 3]


def test_of_a_job_whose_steps_nobody_knows_yet_those_done_are_shown() -> None:
    page = EXAMPLES[JobOverviewPage]
    assert isinstance(page, JobOverviewPage)
    job = JOB.model_copy(update={"progress": Progress(step=1234, phase="training", latest={})})
    html = rendered(dataclasses.replace(page, job=job))
    assert '<progress class="running" aria-label="1,234 steps, of how many is not known yet"></progress>' in html
    assert "/ 0" not in html
    hints = CostHints(steps=0, frames=0, entries=7)
    part = dataclasses.replace(CHECK_PART, check=CHECK.model_copy(update={"hints": hints}))
    assert "as many as the data make" in render.rendered(part)


@pytest.mark.parametrize(
    ("dataset", "shown", "hidden"),
    [
        (DATASET, ("Force components", "Systems", "O-O 2.457", "in 260 frames"), ("Documents", "O-O 2.5")),
        (CORPUS, ("First lines", "Documents", "/FILE.jsonl"), ("Force components", "Vocabulary")),
        (STRUCTURES, ("to be relaxed", "atoms 0 and 1", "/STRUCTURE"), ("Force components", "Documents")),
        (TOKENIZER, ("Special token", "ChatML"), ("Force components", "Documents")),
    ],
)
def test_a_dataset_is_shown_as_what_it_is(dataset: DatasetView, shown: tuple[str], hidden: tuple[str]) -> None:
    drawn = list(data_routes.drawings(dataset.summary))
    html = rendered(DatasetPage(dataset=dataset, versions=[1], relaxes=[], histograms=drawn))
    assert [text for text in shown if text not in html] == []
    assert [text for text in hidden if text in html] == []


def test_lengths_of_text_are_drawn_in_bins_that_double() -> None:
    (drawn,) = data_routes.drawings(CORPUS.summary)
    assert (drawn.kind, drawn.total, drawn.ends) == ("length", 3, ("8", "32"))
    assert [bar.words for bar in drawn.bars] == ["8 to 16 characters: 1", "16 to 32 characters: 2"]


def test_a_job_shows_what_its_model_writes_and_what_its_files_are_for() -> None:
    page = EXAMPLES[JobOverviewPage]
    assert isinstance(page, JobOverviewPage)
    export = CHECKPOINT.files[0].model_copy(update={"name": "a-step4.pth", "role": "export"})
    exported = CHECKPOINT.model_copy(update={"files": [*CHECKPOINT.files, export]})
    html = rendered(dataclasses.replace(page, checkpoints=[exported], exports={".pth": "for `scripts`"}))
    assert "step 1,200" in html
    assert "for <code>scripts</code>:" in html
    silent = rendered(dataclasses.replace(page, samples=[]))
    assert re.search(r'id="samples"[^>]* hidden', silent)


def test_a_job_that_trains_nothing_has_its_own_words_and_metrics() -> None:
    page = EXAMPLES[JobOverviewPage]
    assert isinstance(page, JobOverviewPage)
    progress = Progress(step=3, total_steps=8, unit="frame", latest={"devi/max_f": 0.5, "train/loss": 1.0})
    models = [UsedModel(name="job:3@400", file_name="a.pt", sha256="a" * 64)]
    changes = {"kind": "model-devi", "state": "running", "progress": progress, "seeds": {}, "models": models}
    job = JOB.model_copy(update=changes)
    assert [column.key for column in jobs_routes.columns([job])] == ["devi/max_f"]
    html = rendered(dataclasses.replace(page, job=job))
    for shown in ("Model deviation by frame", "of 8 frames", "frames/s", "job:3@400", "cairn download 17 files"):
        assert shown in html
    for hidden in ("Root seed", "lcurve.out", "Checkpoint, then stop"):
        assert hidden not in html
    assert "then it begins again" in html
    goes_on = rendered(dataclasses.replace(page, job=job.model_copy(update={"kind": "relax"})))
    for shown in (
        "It writes a checkpoint",
        "Checkpoint, then stop",
        'id="checkpoints" aria-label="Checkpoints" hidden',
    ):
        assert shown in goes_on


def test_a_relaxation_shows_where_structures_went_and_what_repeats() -> None:
    html = rendered(EXAMPLES[JobOverviewPage])
    for shown in ("all 5 frames are the same, bit for bit", "parts at frame 3; at most 2.0e-09 Å", "not finite</td>"):
        assert shown in html
    assert '"first": 0' in html
    assert 'id="structure-view"' in html


def test_a_thousand_odd_structures_do_not_bury_the_page() -> None:
    page = EXAMPLES[JobOverviewPage]
    assert isinstance(page, JobOverviewPage)
    odd = next(one for one in RELAXED.structures if one.findings)
    runs = [f"run.{number}" for number in range(1000)]
    lowest = Minimum(model="job:1@200", formula="Cu", rank=1, energy=-3.0, above=0.0, runs=runs)
    many = RELAXED.model_copy(update={"structures": [odd] * 1000, "runs": RELAXED.runs * 2, "minima": [lowest]})
    html = rendered(dataclasses.replace(page, relaxed=many))
    assert "What is odd about 980 more structures is in" in html
    assert 'run.19 <span class="muted">and 980 more</span>' in html


def test_a_job_tells_whether_it_is_exact_and_what_its_weights_were_checked_against() -> None:
    page = EXAMPLES[JobOverviewPage]
    assert isinstance(page, JobOverviewPage)
    html = rendered(page)
    assert ">not exact</summary>" in html
    assert "damaged: &lt;script&gt;" in html
    assert "every hash holds" in html
    exact = JOB.model_copy(
        update={"exactness": Exactness(exact=True, proof=["Two checkpoints."]), "weight_check": None}
    )
    html = rendered(dataclasses.replace(page, job=exact))
    assert ">exact</summary>" in html
    assert "Weight check" not in html


def test_seeds_stand_with_what_the_audit_found() -> None:
    page = EXAMPLES[JobSeedsPage]
    assert isinstance(page, JobSeedsPage)
    assert [(row.name, row.verdict) for row in seeds.rows({"data.order": 3, "model.fitting_net": 8}, AUDIT)] == [
        (EVIL, "own-seed"),
        ("model.fitting_net", EVIL),
        ("data.order", None),
    ]
    html = rendered(page)
    assert words.AUDIT_WORDS["own-seed"] in html
    none = rendered(dataclasses.replace(page, audit=None, rows=seeds.rows({"data.order": 3}, None), logged=[]))
    assert "No audit yet" in none
    assert "data.order" in none


@pytest.mark.parametrize(
    ("key", "panel", "title", "unit"),
    [
        ("devi/max_f", "devi/f", "Force deviation max", "eV/Å"),
        ("devi/avg_v", "devi/v", "Virial deviation avg", "eV/atom"),
        ("devi/e", "devi/e", "Energy deviation", "eV/atom"),
        ("val/rmse_f/water", "rmse_f", "Force RMSE", "eV/Å"),
        ("perf/step_s", "perf/step_s", "Time per step", "s"),
    ],
)
def test_metrics_have_a_panel_a_title_and_a_unit(key: str, panel: str, title: str, unit: str) -> None:
    assert panel_of(key) == panel
    assert (words.describe("deepmd", key).title, words.describe("deepmd", key).unit) == (title, unit)
    assert words.panels("deepmd", [key])[panel]["unit"] == unit


def test_outliers_of_a_group_are_marked_in_words() -> None:
    page = EXAMPLES[ReplicasPage]
    assert isinstance(page, ReplicasPage)
    assert [one.key for one in page.summary] == ["train/rmse_f", "val/rmse_e"], "the headline first, no learning rate"
    html = rendered(page)
    assert "not finite <span" in html
    assert {control.path for control in page.controls} == {"pause", "resume"}
    assert not page.final
    done = dataclasses.replace(page, group=GROUP.model_copy(update={"states": {"completed": 2, "failed": 1}}))
    assert done.final
    assert "Cancel all…" not in rendered(done)


def test_the_deviation_of_models_is_offered_by_itself_once_there_are_two() -> None:
    page = EXAMPLES[ReplicasPage]
    assert isinstance(page, ReplicasPage)
    (first, *_) = GROUP.jobs
    for jobs, is_offered in (([first], False), ([first, first.model_copy(update={"id": 18, "replica": 3})], True)):
        html = rendered(dataclasses.replace(page, group=GROUP.model_copy(update={"jobs": jobs})))
        assert (">Model deviation</button>" in html) == is_offered
        assert ("#work:outerMorph" in html) != is_offered, "nobody's choice is swapped away"


def test_errors_are_tabled_and_drawn() -> None:
    html = rendered(EXAMPLES[JobOverviewPage])
    assert "not finite" in html
    assert "download>" in html.split('id="errors"')[1]
    assert html.count('class="dots dots-') == 2, "one point alone, and one that stands for thirteen"
    assert "Virial RMSE" not in html, "nothing was compared there"
    assert 'href="/jobs/31"' in html.split('id="tests"')[1]


def test_the_smaller_error_of_two_trainings_is_marked() -> None:
    page = EXAMPLES[ComparePage]
    assert isinstance(page, ComparePage)
    better = MEASURED.model_copy(update={"errors": {"rmse_f": 0.1}})
    html = rendered(dataclasses.replace(page, tests=[MeasuredPair(left=MEASURED, right=better)]))
    assert html.count('class="num better"') == 1
    assert 'class="num better">0.1<' in html
    assert "held-out" not in rendered(dataclasses.replace(page, tests=[]))


def test_two_runs_are_followed_until_both_have_ended() -> None:
    page = EXAMPLES[ComparePage]
    assert isinstance(page, ComparePage)
    assert 'data-follow="/api/v1/jobs/17/compare/17"' in rendered(page)
    ended = JOB.model_copy(update={"state": "completed"})
    assert "data-follow" not in rendered(dataclasses.replace(page, left=ended, right=ended))


def test_the_first_difference_is_marked_and_equal_metrics_are_listed() -> None:
    page = EXAMPLES[ComparePage]
    assert isinstance(page, ComparePage)
    assert page.equal_metrics == ["lr"]
    assert [pair.stage for pair in page.fingerprints] == ["init", "checkpoint", "generators"]
    html = rendered(page)
    assert html.count("the first that differs") == 1
    assert "0.10000000000000001" in html
    equal = RUNS.model_copy(update={"divergence": None, "first_differences": [], "fingerprint": None})
    html = rendered(dataclasses.replace(page, runs=equal))
    assert 'class="first"' not in html
    assert "their weights are equal" in html
    assert "exact bits" not in html


@pytest.mark.parametrize(
    ("state", "words"), [("inspecting", "A worker looks into the file"), ("ready", "Start a job from it")]
)
def test_a_model_says_what_can_be_done_with_it(state: str, words: str) -> None:
    page = EXAMPLES[ModelPage]
    assert isinstance(page, ModelPage)
    refused = rendered(page)
    assert "Why it was refused" in refused
    assert words not in refused
    model = page.model.model_copy(update={"state": state, "problem": None})
    assert words in rendered(dataclasses.replace(page, model=model))


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
    model = EXAMPLES[ModelPage]
    assert isinstance(model, ModelPage)
    shown = {command for _, command in (*overview.commands, *model.commands)}
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
    used |= {part.template for part in PARTS}
    macros = {"macros.html", "config_macros.html", "plan_macros.html", "measuring_macros.html", "relaxing_macros.html"}
    shared = {"base.html", "job.html", "logo.html", "unbuilt.html", *macros}
    assert {path.name for path in Path(TEMPLATES).glob("*.html")} == used | shared
