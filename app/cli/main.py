"""The `cairn` command. Only typer is imported here; each command imports what it needs when it runs."""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from app.cli import (
    account,
    control,
    datasets,
    evaluating,
    groups,
    jobs,
    keeping,
    local,
    models,
    relaxation,
    repeating,
    workers,
)
from app.cli.failures import Failure

Command = Callable[..., None]

EPILOG = (
    "Exit codes: 0 done · 1 refused, failed or diverged · 2 wrong usage · 3 no server · 4 token refused · 5 undecided · "
    "130 Ctrl-C"
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"cairn {version('cairn')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Submit, watch and keep training jobs you can retrace."""


def build() -> typer.Typer:
    """Return the command with everything below it."""
    app = typer.Typer(
        name="cairn",
        epilog=EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",  # brackets in help are meant: `[default: 0.05]`, `dataset:NAME[@VERSION][/SYSTEM]`
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    panels: dict[str, Sequence[Command]] = {
        "Jobs": (
            jobs.submit,
            jobs.check,
            jobs.ls,
            jobs.show,
            jobs.watch,
            jobs.logs,
            jobs.cancel,
            control.pause,
            control.resume,
            control.retry,
            control.extend,
            control.clone,
            control.retention,
            jobs.download,
            jobs.provenance,
            jobs.diff,
            repeating.compare,
            repeating.reproduce,
            evaluating.test,
            evaluating.freeze,
            evaluating.model_devi,
            relaxation.relax,
        ),
        "Server": (workers.workers, keeping.verify, keeping.gc, account.dashboard, account.login, account.whoami),
        "On this machine": (
            local.up,
            local.demo,
            local.doctor,
            local.worker,
            local.migrate,
            keeping.backup,
            keeping.restore,
            keeping.upgrade,
        ),
    }
    for panel, commands in panels.items():
        _add(app, commands, panel)
    # A negative priority is no option, although it looks like one.
    app.command(rich_help_panel="Jobs", context_settings={"ignore_unknown_options": True})(control.priority)
    app.command("test-on", rich_help_panel="Jobs")(control.held_out)
    replicas = typer.Typer(no_args_is_help=True, help="Look at groups of replicas, and act on all of their jobs.")
    _add(replicas, (groups.ls, groups.show, groups.cancel, groups.pause, groups.resume, groups.download))
    app.add_typer(replicas, name="group", rich_help_panel="Jobs")
    data = typer.Typer(no_args_is_help=True, help="Add datasets and look at them.")
    _add(data, (datasets.add, datasets.ls, datasets.show, datasets.rm))
    app.add_typer(data, name="dataset", rich_help_panel="Datasets and models")
    bases = typer.Typer(no_args_is_help=True, help="Add base models, weights to start from, and look at them.")
    _add(bases, (models.add, models.promote, models.ls, models.show, models.download, models.rm))
    app.add_typer(bases, name="model", rich_help_panel="Datasets and models")
    return app


def _add(app: typer.Typer, commands: Sequence[Command], panel: str | None = None) -> None:
    for command in commands:
        app.command(rich_help_panel=panel)(command)


def run() -> None:
    """Run the command line of this process; never returns."""
    try:
        build()()
    except Failure as failure:
        from app.cli.screen import print_failure

        print_failure(failure, as_json="--json" in sys.argv)
        sys.exit(failure.exit_code)
    except BrokenPipeError:
        # `cairn ls | head`: nobody reads any more, and the interpreter's own flush at exit must not complain.
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    run()
