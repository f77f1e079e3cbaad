"""`cairn test`: submits the job, watches it, and prints the errors: of all data, by system, by element."""

from collections.abc import Sequence

from rich.markup import escape

from app.cli.api import Api, view
from app.cli.screen import counted, out, print_json, state, table
from app.cli.working import Wanted, work
from app.wire.jobs import JobDetail
from app.wire.measuring import ErrorReport, Errors, Measured, MeasuredPair, ModelErrors, Quantity

FILE = "test.json"


def test(wanted: Wanted, *, detach: bool, as_json: bool) -> None:
    """Submit a test; unless told to leave, watch it to its end and print what came out. Raises Failure."""

    def show(api: Api, job: JobDetail) -> None:
        found = api.get(f"/jobs/{job.id}/files/{FILE}")
        if as_json:
            print_json({"job": job.id, **found})
        else:
            print_report(view(ErrorReport, found))

    work(wanted, show, detach=detach, as_json=as_json)


def print_report(report: ErrorReport) -> None:
    """Print the errors of every model: on all data in full, then by system and element the most telling ones."""
    for model in report.models:
        shown = present(report.quantities, model.overall)
        frames = sum(one.frames or 0 for one in model.systems)
        whole = table(f"{escape(model.model)}, {frames} frames", "", "unit", right=("",))
        for one in shown:
            whole.add_row(one.title, _full(model.overall[one.key]), one.unit)
        out().print(whole)
        _print_parts(model, [one for one in shown if one.headline])
        _print_worst(model)


def _print_parts(model: ModelErrors, shown: Sequence[Quantity]) -> None:
    heads = [f"{one.title} [dim]{one.unit}[/]" for one in shown]
    rows = table("by system, by element", "frames", *heads, right=("frames", *heads))
    for row in [*(model.systems if len(model.systems) > 1 else ()), *model.elements]:
        errors = [_short(row.errors[one.key]) if one.key in row.errors else "" for one in shown]
        rows.add_row(escape(row.name), str(row.frames or ""), *errors)
    if rows.row_count:
        out().print(rows)


def present(quantities: Sequence[Quantity], errors: Errors) -> list[Quantity]:
    """Return the quantities that were measured."""
    return [one for one in quantities if one.key in errors]


def _full(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.6e}"


def _short(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def _print_worst(model: ModelErrors) -> None:
    if model.worst:
        first = model.worst[0]
        force = f", {first.largest_force_error:.4g} eV/Å at atom {first.atom}" if first.largest_force_error else ""
        where = f"frame {first.frame} of {first.system}{force}"
        count = counted(len(model.worst), "frame")
        out().print(
            f"[dim]Worst: {escape(where)}. The worst by force and by energy, {count}, are in {model.worst_file}.[/]"
        )


def print_tests(tests: Sequence[Measured]) -> None:
    """Print what was measured of a training's checkpoints, if anything was."""
    for one in tests:
        shown = [what for what in present(one.quantities, one.errors) if what.headline]
        errors = ", ".join(f"{what.title} {_short(one.errors[what.key])} {what.unit}" for what in shown)
        where = f"{escape(_point(one))} on {escape(', '.join(one.data))}"
        out().print(f"  [dim]{'test':<12}[/]job {one.job}, {where}: {errors or state(one.state)}")


def _point(one: Measured) -> str:
    """Return which model of a training it was."""
    return f"step {one.step}" + (f", task {one.head}" if one.head else "")


def print_pairs(pairs: Sequence[MeasuredPair], left: int, right: int) -> None:
    """Print two trainings' errors on the same held-out data, if there are any."""
    for pair in pairs:
        sides = ((left, pair.left), (right, pair.right))
        heads = [f"job {job_id}, {escape(_point(side))}" for job_id, side in sides]
        rows = table(f"on {escape(', '.join(pair.left.data))}", *heads, "unit", right=heads)
        for one in present(pair.left.quantities, pair.left.errors):
            values = [side.errors.get(one.key) for _, side in sides]
            rows.add_row(one.title, *[_full(value) for value in values], one.unit)
        out().print(rows)
