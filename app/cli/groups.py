"""`cairn group ls|show|cancel|pause|resume|download`: what the commands are called and take."""

from typing import Annotated

import typer

from app.cli.options import Force, Json, Limit, Output, given

Group = Annotated[int, typer.Argument(metavar="GROUP", help="The group's number.", min=1)]
Reason = Annotated[str | None, typer.Option(help="Why, for the timelines of the jobs.")]


def ls(limit: Limit = 20, json: Json = False) -> None:
    """List groups of replicas, newest first."""
    from app.cli import replicas

    replicas.list_groups(limit=limit, as_json=json)


def show(group: Group, json: Json = False) -> None:
    """Show a group: its jobs, and each metric's mean, spread, 95 % interval and outliers."""
    from app.cli import replicas

    replicas.show(group, as_json=json)


def cancel(
    group: Group,
    now: Annotated[bool, typer.Option("--now", help="Without final checkpoints.")] = False,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Stop all replicas after a final checkpoint of each."""
    from app.cli import replicas

    replicas.act(group, "cancel", {"now": now} | given(reason=reason), as_json=json)


def pause(group: Group, reason: Reason = None, json: Json = False) -> None:
    """Pause all replicas after a checkpoint of each."""
    from app.cli import replicas

    replicas.act(group, "pause", given(reason=reason), as_json=json)


def resume(group: Group, reason: Reason = None, json: Json = False) -> None:
    """Let all paused replicas go on."""
    from app.cli import replicas

    replicas.act(group, "resume", given(reason=reason), as_json=json)


def download(
    group: Group,
    step: Annotated[int | None, typer.Option(min=0, help="Of this step [default: each one's newest].")] = None,
    output: Output = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Download the ensemble: one zip with a checkpoint of every replica, and how to use them together."""
    from app.cli import replicas
    from app.cli.downloading import Target

    replicas.download(group, step, Target(output, force=force), as_json=json)
