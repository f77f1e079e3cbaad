"""`cairn up|demo|doctor|worker|migrate`: for machines that have more than the light client installed."""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import typer

from app.cli.failures import usage
from app.cli.options import DataDir, Json

Slots = Annotated[
    int | None,
    typer.Option("--slots", min=1, help="Trainings at the same time [default: one per GPU, or one on a CPU]."),
]


def up(
    data_dir: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to bind to [default: 127.0.0.1].")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port [default: 8765]; 0 takes a free one.")
    ] = None,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Without a worker.")] = False,
    slots: Slots = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the dashboard in a browser.")] = False,
) -> None:
    """Start Cairn here: Redis, API and a worker, supervised until Ctrl-C."""
    module = _import("app.up", "up", "server,worker", trains=True)
    code = module.up(data_dir=data_dir, host=host, port=port, worker=not no_worker, slots=slots, open_browser=open_)
    raise typer.Exit(code)


def demo(
    data_dir: Annotated[Path, typer.Option(help="Data directory of the demo.")] = Path(".demo"),
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port [default: 8765, or a free one].")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Train so many steps instead of the example's.")] = None,
    engine: Annotated[
        Literal["deepmd", "minimind"], typer.Option(help="Copper by DeePMD-kit, or a language model as MiniMind's.")
    ] = "deepmd",
    exit_: Annotated[bool, typer.Option("--exit", help="End after the table instead of serving on.")] = False,
) -> None:
    """Train a model from nothing: data, job, checkpoint, how good it is."""
    module = _import("app.demo" if engine == "deepmd" else "app.demo_minimind", "demo", f"server,worker,{engine}")
    raise typer.Exit(module.demo(data_dir=data_dir, port=port, steps=steps, leave=exit_))


def doctor(data_dir: DataDir = None, json: Json = False) -> None:
    """Say what is missing on this machine, and how to get it."""
    from app import doctor as checks

    raise typer.Exit(checks.doctor(data_dir=data_dir, as_json=json))


def worker() -> None:
    """Run a worker alone; settings come from the environment (docs/settings.md)."""
    import os
    import sys

    _import("celery", "worker", "worker", trains=True)
    # A directory `worker` where somebody happens to start us is none of ours.
    os.environ["PYTHONSAFEPATH"] = "1"
    os.execv(sys.executable, [sys.executable, "-m", "worker"])  # noqa: S606  (our own interpreter)


def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to this version's schema; `cairn up` does so by itself."""
    module = _import("app.up", "migrate", "server")
    module.migrate(data_dir)


def _import(module: str, command: str, extras: str, *, trains: bool = False) -> ModuleType:
    """Import what a command needs, or say which extras bring it; `trains`: those of the engines, too."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        from app.doctor import engine_extras

        extras = ",".join([extras, *(engine_extras() if trains else ())])
        raise usage(
            f"`cairn {command}` needs {error.name}, which is not installed.",
            code="extra-missing",
            hint=f"uv pip install 'cairn[{extras}]'",
        ) from error
