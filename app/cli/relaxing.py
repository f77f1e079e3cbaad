"""`cairn relax`: sends structures, submits the job, watches it, and prints where each run ended and what repeated."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.markup import escape

from app.cli.api import Api, connect, view
from app.cli.data import default_name, upload
from app.cli.failures import usage
from app.cli.screen import counted, err, out, print_json, table
from app.cli.working import Wanted, work
from app.wire.datasets import DatasetView
from app.wire.jobs import JobDetail
from app.wire.relaxing import Minimum, RelaxedRun, RelaxReport, Repeat

FILE = "relax.json"
MOST_FINDINGS = 50


def relax(wanted: Wanted, structures: Sequence[str], *, detach: bool, as_json: bool) -> None:
    """Send what is not on the server yet and submit; unless told to leave, print what came out. Raises Failure."""
    wanted.config["structures"] = sent(structures, as_json=as_json)

    def show(api: Api, job: JobDetail) -> None:
        found = api.get(f"/jobs/{job.id}/files/{FILE}")
        if as_json:
            print_json({"job": job.id, **found})
        else:
            print_report(view(RelaxReport, found))

    work(wanted, show, detach=detach, as_json=as_json)


def sent(structures: Sequence[str], *, as_json: bool) -> list[str]:
    """Return how a config names the structures: files become one dataset, references stay as they are."""
    files = [Path(text) for text in structures if not text.startswith("dataset:")]
    missing = next((path for path in files if not path.exists()), None)
    if missing is not None:
        raise usage(f"There is no file {missing}.", hint="Name files that ASE reads, or dataset:NAME[/STRUCTURE].")
    refs = [text for text in structures if text.startswith("dataset:")]
    if not files:
        return refs
    with connect() as api, _one_place(files) as path:
        name = default_name(str(files[0])) if len(files) == 1 else "structures"
        found = view(DatasetView, upload(api, path, {"name": name or "structures", "form": "structures"}))
    if not as_json:
        for warning in found.warnings:
            err().print(f"[yellow bold]warning[/] {escape(warning)}")
        out().print(f"{escape(found.ref)} holds {counted(len(found.summary.structures), 'structure')}.")
    return [*refs, found.ref]


@contextmanager
def _one_place(files: Sequence[Path]) -> Iterator[Path]:
    """Give one file, or a directory with all of them: it travels as an archive."""
    if len(files) == 1:
        yield files[0]
        return
    with tempfile.TemporaryDirectory(prefix="cairn-") as made:
        place = Path(made) / "structures"
        place.mkdir()
        for number, path in enumerate(files):
            name = _apart(path, files)
            taken = (place / name).exists()
            shutil.copyfile(path, place / (f"{number}-{name}" if taken else name))
        yield place


def _apart(path: Path, files: Sequence[Path]) -> str:
    """Return a file's name, with its directory's before it where others are called the same: `*/POSCAR`."""
    alike = [other for other in files if other.name == path.name]
    return f"{path.resolve().parent.name}-{path.name}" if len(alike) > 1 else path.name


def print_report(report: RelaxReport) -> None:
    """Print where every run ended, the minima, what is odd about structures, and what repeated."""
    heads = ["steps", "eV", "eV/atom", "fmax", "Å³"]
    rows = table("run", "", *heads, right=heads)
    for run in report.runs:
        rows.add_row(escape(run.name), _outcome(run), str(run.steps), *_numbers(run))
    out().print(rows)
    found = [(structure.name, each.message) for structure in report.structures for each in structure.findings]
    for name, message in found[:MOST_FINDINGS]:
        out().print(f"[yellow bold]{escape(name)}[/] {escape(message)}")
    if more := found[MOST_FINDINGS:]:
        out().print(f"{counted(len(more), 'more such finding')} in {FILE}.")
    if len(report.runs) > 1 and report.minima:
        _print_minima(report.minima)
    for repeat in report.repeats_in_words():
        _print_repeat(repeat)


def _outcome(run: RelaxedRun) -> str:
    colour = {"converged": "green", "not-finite": "red"}.get(run.outcome, "yellow")
    return f"[{colour}]{run.outcome.replace('-', ' ')}[/]"


def _numbers(run: RelaxedRun) -> Iterator[str]:
    values: tuple[tuple[Any, str], ...] = (
        (run.energy, ".6f"), (run.energy_per_atom, ".6f"), (run.fmax, ".4f"), (run.volume, ".3f"),
    )  # fmt: skip
    yield from ("–" if value is None else f"{value:{form}}" for value, form in values)


def _print_minima(minima: Sequence[Minimum]) -> None:
    rows = table("minimum", "of", "eV", "above, eV/atom", "runs", right=("eV", "above, eV/atom"))
    for one in minima:
        runs = ", ".join(one.runs[:8]) + (f" and {len(one.runs) - 8} more" if len(one.runs) > 8 else "")
        rows.add_row(f"{one.rank}", one.formula, f"{one.energy:.6f}", f"{one.above:.6f}", escape(runs))
    out().print(rows)


def _print_repeat(repeat: Repeat) -> None:
    if repeat.identical:
        out().print(f"Again {escape(repeat.how)}: all {repeat.frames} frames are the same, bit for bit.")
        return
    by = f"{repeat.positions:.1e} Å, {repeat.energy:.1e} eV, {repeat.forces:.1e} eV/Å"
    where = f"{escape(str(repeat.parts_in))} parts at frame {repeat.parts_at}"
    out().print(f"[yellow]Again {escape(repeat.how)}: {where}; at most {by} lie between.[/]")
