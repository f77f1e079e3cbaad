"""`cairn pause|resume|retry|extend|clone|priority|retention|test-on`: what the commands are called and take."""

from typing import Annotated

import typer

from app.cli.options import Existing, Job, Json, Seed, Settings, given


def pause(
    job: Job,
    reason: Annotated[str | None, typer.Option(help="Why, for its timeline.")] = None,
    json: Json = False,
) -> None:
    """Let a job wait; one that runs stops after a checkpoint."""
    from app.cli import controlling

    controlling.act(job, "pause", given(reason=reason), as_json=json)


def resume(
    job: Job,
    reason: Annotated[str | None, typer.Option(help="Why, for its timeline.")] = None,
    json: Json = False,
) -> None:
    """Put a paused job back into the queue; it goes on from its newest checkpoint."""
    from app.cli import controlling

    controlling.act(job, "resume", given(reason=reason), as_json=json)


def retry(
    job: Job,
    force: Annotated[
        bool, typer.Option("--force", help="Also when its configuration or data were wrong, and it would fail again.")
    ] = False,
    json: Json = False,
) -> None:
    """Queue a failed or cancelled job again, from its newest good checkpoint."""
    from app.cli import controlling

    controlling.act(job, "retry", {"force": force}, as_json=json)


def extend(
    job: Job,
    steps: Annotated[int, typer.Argument(help="Counted from its very beginning.", min=1)],
    name: Annotated[str | None, typer.Option(help="Name of the new job [default: extension of NAME].")] = None,
    on_existing: Existing = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch it until it ends.")] = False,
    json: Json = False,
) -> None:
    """Train on to more steps, as a new job that goes on from this one's newest checkpoint."""
    from app.cli import controlling

    controlling.extend(job, {"steps": steps, **given(name=name, on_existing=on_existing)}, follow=follow, as_json=json)


def clone(
    job: Job,
    set_: Settings = None,
    edit: Annotated[bool, typer.Option("--edit", "-e", help="Open its config in $EDITOR first.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the new job [default: the same].")] = None,
    seed: Seed = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, help="Higher runs first.")] = None,
    on_existing: Existing = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch it until it ends.")] = False,
    json: Json = False,
) -> None:
    """Submit what was submitted for a job again, with changes."""
    from app.cli import controlling

    fields = given(name=name, seed=seed, priority=priority, on_existing=on_existing)
    controlling.clone(job, set_ or [], fields, edit=edit, follow=follow, as_json=json)


def priority(
    job: Job,
    value: Annotated[int, typer.Argument(metavar="PRIORITY", help="From -100 to 100; higher runs first.")],
    json: Json = False,
) -> None:
    """Change which of the jobs that wait runs first."""
    from app.cli import controlling

    controlling.prioritise(job, value, as_json=json)


def retention(
    job: Job,
    last: Annotated[int | None, typer.Option(min=2, help="Keep so many of the newest.")] = None,
    best: Annotated[
        str | None, typer.Option(metavar="METRIC", help="Keep the one with its lowest value: val/rmse_f. '': none.")
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=0, help="Keep those of every step divisible by this. 0: none.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be kept and removed.")] = False,
    json: Json = False,
) -> None:
    """Show which checkpoints of a job are kept and why, or change which are: what is not kept is removed at once."""
    from app.cli import retaining

    changes = given(keep_last=last, keep_best=best, keep_every=every)
    retaining.retain(job, changes, dry_run=dry_run, as_json=json)


def held_out(
    job: Job,
    data: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REF]...", help="dataset:NAME[@VERSION][/SYSTEM]; of several tasks TASK=dataset:…"),
    ] = None,
    at: Annotated[
        list[int] | None,
        typer.Option(
            min=1, metavar="STEP", help="Test the checkpoint of this step, too, once it is there. Repeatable."
        ),
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, metavar="STEPS", help="Test a checkpoint every so many steps, too.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="On nothing more.")] = False,
    json: Json = False,
) -> None:
    """Show on which data a training was tested, or say on which it is, by itself: its last checkpoint, and chosen ones."""
    from app.cli import measuring

    measuring.hold_out(job, data or [], given(at=at, every=every), none=none, as_json=json)
