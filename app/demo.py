"""`cairn demo`: the main job from nothing to a tested potential, on this machine."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.cli import data, watching
from app.cli.api import Api, connect, view
from app.cli.document import apply_settings, read
from app.cli.downloading import checkpoint_files, fetch
from app.cli.failures import Failure
from app.cli.screen import duration, print_failure
from app.cli.server import Server
from app.up import command
from app.up.house import House, bound_port, opened
from app.up.keeper import Hopeless
from app.up.services import CannotStart
from app.wire.datasets import DatasetView
from app.wire.jobs import JobDetail
from app.wire.metrics import MetricSeries

EXAMPLE = Path(__file__).parents[1] / "examples" / "copper"
HELD_OUT = "held-out-*"
"""Systems of the example that no training step sees."""
SEED = 20
TAG = "demo"

T = TypeVar("T")

console = Console(highlight=False, soft_wrap=True)

Errors = dict[str, float]
"""`energy_mae`, `energy_rmse` in eV/atom; `force_mae`, `force_rmse` in eV/Å."""


class DemoError(Exception):
    """A step of the demo did not work. The message carries what the program behind it printed."""


def demo(*, data_dir: Path, port: int | None, steps: int | None, leave: bool) -> int:
    """Run the demo, then serve until Ctrl-C unless told to leave. Return the exit code."""
    return in_house(lambda house: run(house, steps), data_dir=data_dir, port=port, leave=leave)


def in_house(show: Callable[[House], None], *, data_dir: Path, port: int | None, leave: bool) -> int:
    """Start Cairn, show something, then serve until Ctrl-C unless told to leave. Return the exit code."""
    try:
        plan = command.make_plan(data_dir=data_dir, port=_port(port))
        with command.signalled() as stop, opened(plan, command.say) as house:
            # A signal ends the demo at once while it trains: the job stays, and goes on at the next start.
            stop.keeper = house.keeper
            show(house)
            stop.breaks_off = False
            if not leave:
                command.greet(house)
                command.serve(house, stop)
    except (CannotStart, Hopeless) as error:
        command.complain(error)
        return 1
    except Failure as failure:
        print_failure(failure, as_json=False)
        return failure.exit_code
    except DemoError as error:
        console.print(f"[red bold]error[/]  {escape(str(error))}")
        return 1
    except command.Interrupted:
        console.print("\nStopped. A job that ran has written its checkpoint and goes on at the next start.")
        return 130
    return 0


def _port(wanted: int | None) -> int:
    """Return the port asked for; else the usual one when it is free, else any."""
    if wanted is not None:
        return wanted
    with suppress(OSError):
        return bound_port("127.0.0.1", 8765)
    return 0


def run(house: House, steps: int | None) -> None:
    """Do everything between the start and the table.

    Raises:
        Failure: the server refused something, or the job did not complete.
        DemoError: a program behind a step failed.
    """
    if not EXAMPLE.is_dir():
        raise DemoError(f"{EXAMPLE} is missing: the demo runs from a checkout of the repository.")
    with connect(Server(house.plan.url, house.token, "the demo", "the demo")) as api:
        job, systems = train(api, house, steps)
        fallen = fall(api, job)
        folder = house.plan.settings.data_dir / "models" / f"job-{job.id}"
        checkpoint = step("checkpoint downloaded, SHA-256 verified", lambda: download(api, job.id, folder))
    frozen = step("frozen with stock `dp --pt freeze`", lambda: freeze(checkpoint, folder))
    errors = step("tested with stock `dp --pt test`", lambda: test(frozen, sorted(systems.glob(HELD_OUT)), folder))
    report(errors, fallen, checkpoint, frozen)


def train(api: Api, house: House, steps: int | None) -> tuple[JobDetail, Path]:
    """Make the data, register it, submit the example and watch it to its end; return the job and the systems."""
    systems = house.plan.settings.data_dir / "copper"
    step("copper data (EMT potential: MD at four temperatures, strained cells)", lambda: generate(systems))
    reference = step("dataset registered", lambda: register(api, systems))
    job = submit(api, steps)
    console.print(f"  job {job.id} {standing(job)}: {job.progress.total_steps} steps on {reference}\n")
    job = watching.watch_job(api, job.id, footer=f"Dashboard  {escape(house.login_link())}")
    watching.finish(job, as_json=False)
    return job, systems


def standing(job: JobDetail) -> str:
    """Return what became of a submission."""
    if job.state == "completed":
        return "has trained this already"
    return f"goes on from step {job.progress.step}" if job.progress.step else "submitted"


def step(what: str, do: Callable[[], T]) -> T:
    """Do something, and say that it is done and how long it took."""
    started = time.monotonic()
    with console.status(what):
        result = do()
    console.print(f"  [green]✓[/] {what} [dim]{duration(time.monotonic() - started)}[/]")
    return result


def generate(systems: Path) -> None:
    """Make the example's systems, unless the same script and versions have made them before."""
    run_program([sys.executable, str(EXAMPLE / "generate.py"), str(systems)], systems.parent)


def register(api: Api, systems: Path) -> str:
    """Upload the systems as dataset `copper` and return its reference; the same content stays the same version."""
    found = data.upload(api, systems, {"name": "copper", "engine": "deepmd"})
    return view(DatasetView, found).ref


def submit(api: Api, steps: int | None) -> JobDetail:
    """Submit the example's input, or return the job of an earlier demo: its training is the same, so nothing is trained twice."""
    document = read(str(EXAMPLE / "input.json"))
    apply_settings(document, [f"training.numb_steps={steps}"] if steps else [])
    body = {"config": document.value, "engine": "deepmd", "name": "copper", "seed": SEED, "tags": [TAG]}
    body["on_existing"] = "resume"
    try:
        return view(JobDetail, api.post("/jobs", json=body))
    except Failure as failure:
        failure.document = document
        raise


def download(api: Api, job_id: int, folder: Path) -> Path:
    """Fetch the newest checkpoint in the engine's own format."""
    (remote,) = checkpoint_files(api, job_id)
    return fetch(api, remote, folder / remote.name)[0]


def freeze(checkpoint: Path, folder: Path) -> Path:
    """Freeze a checkpoint with stock DeePMD-kit."""
    frozen = folder / "frozen_model.pth"
    run_program([_dp(), "--pt", "freeze", "-c", checkpoint.name, "-o", frozen.name], folder)
    return frozen


def test(model: Path, systems: list[Path], folder: Path) -> dict[str, Errors]:
    """Test a model with stock DeePMD-kit on every frame of the systems; return the errors by system."""
    listing = folder / "held-out.txt"
    listing.write_text("".join(f"{system}\n" for system in systems))
    printed = run_program([_dp(), "--pt", "test", "-m", model.name, "-f", listing.name, "-n", "0"], folder)
    return parse_test(printed)


def parse_test(printed: str) -> dict[str, Errors]:
    """Return the errors that `dp test` printed, by system; the weighted average stands under `all`."""
    found: dict[str, Errors] = {}
    name = "all"
    for line in printed.splitlines():
        if match := re.search(r"# testing system : (\S+)", line):
            name = Path(match[1]).name
        elif "weighted average of errors" in line:
            name = "all"
        elif match := re.search(r"(Energy|Force) +(MAE|RMSE)(/Natoms)? *: +(\S+) eV", line):
            quantity, measure, per_atom, value = match.groups()
            if (quantity == "Energy") == bool(per_atom):
                found.setdefault(name, {})[f"{quantity}_{measure}".lower()] = float(value)
    return found


def fall(api: Api, job: JobDetail) -> tuple[float, float]:
    """Return the force error on validation data (eV/Å) at the first step and at the last."""
    series = view(MetricSeries, api.get(f"/jobs/{job.id}/metrics", keys="val/rmse_f"))
    values = [value for value in series.values["val/rmse_f"] if value is not None]
    return values[0], values[-1]


def report(errors: dict[str, Errors], fallen: tuple[float, float], checkpoint: Path, frozen: Path) -> None:
    """Print the errors in the field's units."""
    rows = Table(title="Errors on data that no training step saw", title_justify="left", header_style="bold")
    rows.add_column("system")
    for column in ("energy MAE", "energy RMSE", "force MAE", "force RMSE"):
        rows.add_column(f"{column}\n{'meV/atom' if 'energy' in column else 'meV/Å'}", justify="right")
    for name, found in errors.items():
        if name == "all":
            rows.add_section()
        keys = ("energy_mae", "energy_rmse", "force_mae", "force_rmse")
        rows.add_row(escape(name), *(f"{found[key] * 1000:.2f}" for key in keys))
    first, last = fallen
    console.print()
    console.print(rows)
    console.print(
        f"Force RMSE on validation data: {first * 1000:.0f} meV/Å at step 1, {last * 1000:.1f} meV/Å at the end: "
        f"[bold]{first / last:.3g} times smaller[/]."
    )
    console.print(f"Checkpoint  {escape(str(checkpoint))}\nFrozen      {escape(str(frozen))}")


def _dp() -> str:
    return str(Path(sys.executable).with_name("dp"))


def run_program(command_line: list[str], directory: Path) -> str:
    """Run a program and return what it printed.

    Raises:
        DemoError: it failed.
    """
    done = subprocess.run(command_line, cwd=directory, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise DemoError(f"`{' '.join(command_line)}` failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout + done.stderr
