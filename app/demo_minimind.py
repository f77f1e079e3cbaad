"""`cairn demo --engine minimind`: a language model from nothing, pretrained and taught to answer, on this machine."""

import sys
import zipfile
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from app.cli import data, watching
from app.cli.api import Api, connect, view
from app.cli.document import apply_settings, read
from app.cli.downloading import checkpoint_files, fetch
from app.cli.failures import Failure
from app.cli.server import Server
from app.demo import DemoError, console, in_house, run_program, standing, step
from app.up.house import House
from app.wire.datasets import DatasetView
from app.wire.jobs import Event, JobDetail
from app.wire.metrics import MetricSeries

EXAMPLE = Path(__file__).parents[1] / "examples" / "minimind"
SEED = 20
QUESTIONS = (
    "Who are you?",
    "Mia has 4 apples. Tom gives Mia 3 more. How many apples does Mia have?",
    "Ada walks through the forest with a blue hat. There she meets a duck. What does the duck do?",
)


def demo(*, data_dir: Path, port: int | None, steps: int | None, leave: bool) -> int:
    """Run the demo, then serve until Ctrl-C unless told to leave. Return the exit code."""
    return in_house(lambda house: run(house, steps), data_dir=data_dir, port=port, leave=leave)


def run(house: House, steps: int | None) -> None:
    """Do everything between the start and the answers.

    Raises:
        Failure: the server refused something, or a job did not complete.
        DemoError: a program behind a step failed.
    """
    if not EXAMPLE.is_dir():
        raise DemoError(f"{EXAMPLE} is missing: the demo runs from a checkout of the repository.")
    with connect(Server(house.plan.url, house.token, "the demo", "the demo")) as api:
        corpus = house.plan.settings.data_dir / "little"
        step("stories and conversations (a grammar, and sums)", lambda: _generate(corpus))
        for name in ("stories", "chats"):
            step(f"dataset {name} registered", lambda name=name: _register(api, corpus / name, name))  # type: ignore[misc]
        pretrained = _train(api, house, "input.json", "stories", {}, steps)
        tuned = _train(api, house, "sft.json", "chats", {"mode": "init", "base": f"job:{pretrained.id}"}, steps)
        report(api, pretrained, tuned)
        folder = house.plan.settings.data_dir / "models" / f"job-{tuned.id}"
        directory = step("Hugging Face directory downloaded", lambda: _download(api, tuned.id, folder))
    answers = step("asked with transformers alone", lambda: _ask(directory))
    for question, answer in zip(QUESTIONS, answers, strict=True):
        console.print(f"    [dim]{escape(question)}[/]\n    {escape(answer)}")
    console.print(f"Model  {escape(str(directory))}")


def _generate(corpus: Path) -> None:
    run_program([sys.executable, str(EXAMPLE / "generate.py"), str(corpus)], corpus.parent)


def _register(api: Api, folder: Path, name: str) -> str:
    return view(DatasetView, data.upload(api, folder, {"name": name, "engine": "minimind"})).ref


def _train(api: Api, house: House, config: str, name: str, start: dict[str, Any], steps: int | None) -> JobDetail:
    """Submit one of the example's configs and watch it to its end; what an earlier demo has trained is not trained again."""
    document = read(str(EXAMPLE / config))
    apply_settings(document, [f"training.max_steps={steps}"] if steps else [])
    body = {"config": document.value, "engine": "minimind", "name": name, "seed": SEED, "tags": ["demo"]}
    try:
        job = view(JobDetail, api.post("/jobs", json={**body, "start": start, "on_existing": "resume"}))
    except Failure as failure:
        failure.document = document
        raise
    console.print(f"  job {job.id} {standing(job)}: {document.value['stage']} on {name}\n")
    job = watching.watch_job(api, job.id, footer=f"Dashboard  {escape(house.login_link())}")
    watching.finish(job, as_json=False)
    return job


def report(api: Api, *jobs: JobDetail) -> None:
    """Print how loss and perplexity on held-back data fell, and what the model said on the way."""
    table = Table(title="On data that no training step saw", title_justify="left", header_style="bold")
    for column in ("job", "step", "loss", "perplexity", "what it says"):
        table.add_column(column, justify="left" if column in ("job", "what it says") else "right")
    for job in jobs:
        table.add_section()
        for at, loss, perplexity, text in _curve(api, job):
            table.add_row(job.name, str(at), f"{loss:.3f}", f"{perplexity:.2f}", escape(" ".join(text.split())))
    console.print()
    console.print(table)


def _curve(api: Api, job: JobDetail) -> list[tuple[int, float, float, str]]:
    """Return step, loss, perplexity and sample of the first validation and the last ones."""
    series = view(MetricSeries, api.get(f"/jobs/{job.id}/metrics", keys="val/loss,val/perplexity"))
    said = {event.data["step"]: event.data["text"] for event in _events(api, job) if event.kind == "sample"}
    values = (series.values["val/loss"], series.values["val/perplexity"])
    rows = [
        (at, loss, perplexity, said.get(at, ""))
        for at, loss, perplexity in zip(series.steps["val/loss"], *values, strict=True)
        if loss is not None and perplexity is not None
    ]
    return rows[:1] + rows[1:][-3:]


def _events(api: Api, job: JobDetail) -> list[Event]:
    return [view(Event, item) for item in api.get(f"/jobs/{job.id}/events")]


def _download(api: Api, job_id: int, folder: Path) -> Path:
    """Fetch and unpack the newest checkpoint's Hugging Face directory; return it."""
    (remote,) = [one for one in checkpoint_files(api, job_id, all_files=True) if one.name.endswith("-hf.zip")]
    archive = fetch(api, remote, folder / remote.name)[0]
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    return folder / archive.stem


def _ask(directory: Path) -> list[str]:
    printed = run_program([sys.executable, str(EXAMPLE / "talk.py"), str(directory), *QUESTIONS], directory)
    return printed.splitlines()[: len(QUESTIONS)]
