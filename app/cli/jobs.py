"""`cairn submit|check|ls|show|watch|logs|cancel|download|provenance|diff`: what the commands are called and take."""

from enum import StrEnum
from typing import Annotated

import typer

from app.cli.options import (
    Allow,
    Base,
    Branch,
    Config,
    Engine,
    Existing,
    FittingOption,
    Force,
    Gpus,
    Job,
    Json,
    Limit,
    Mismatch,
    ModeOption,
    Output,
    Replicas,
    Seed,
    Settings,
    TestAt,
    TestEvery,
    TestOn,
    given,
)


class Level(StrEnum):
    """How strictly a training repeats."""

    strict = "strict"
    seeded = "seeded"
    fast = "fast"


class What(StrEnum):
    """What can be downloaded of a job."""

    checkpoint = "checkpoint"
    bundle = "bundle"
    files = "files"
    curve = "curve"
    lcurve = "lcurve"


def submit(
    file: Config = None,
    base: Base = None,
    mode: ModeOption = None,
    branch: Branch = None,
    fitting: FittingOption = None,
    on_mismatch: Mismatch = None,
    allow: Allow = None,
    name: Annotated[str | None, typer.Option(help="Name of the job [default: the server's choice].")] = None,
    seed: Seed = None,
    replicas: Replicas = None,
    gpus: Gpus = None,
    determinism: Annotated[Level | None, typer.Option(help="How strictly the run repeats.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A label to find it by. Repeatable.")] = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, help="Higher runs first.")] = None,
    keep_last: Annotated[int | None, typer.Option(min=2, help="How many of the newest checkpoints are kept.")] = None,
    keep_best: Annotated[
        str | None, typer.Option(metavar="METRIC", help="Keep the one with its lowest value, too: val/rmse_f.")
    ] = None,
    keep_every: Annotated[
        int | None, typer.Option(min=1, help="Keep those of every step divisible by this, too.")
    ] = None,
    checkpoint_every: Annotated[int | None, typer.Option(min=1, help="Steps between checkpoints.")] = None,
    on_existing: Existing = None,
    test_on: TestOn = None,
    test_at: TestAt = None,
    test_every: TestEvery = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Upload this archive or directory along; paths in FILE then mean its systems. NAME=PATH names it. Repeatable.",
        ),
    ] = None,
    set_: Settings = None,
    engine: Engine = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Submitting twice with one key makes one job [default: drawn per call].")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch it until it ends.")] = False,
    json: Json = False,
) -> None:
    """Submit an input.json for training, from scratch or from a base model."""
    from app.cli import starting, submission

    start = starting.read(base=base, mode=mode, branch=branch, fitting=fitting, on_mismatch=on_mismatch, allow=allow)
    policy = given(keep_last=keep_last, keep_best=keep_best, keep_every=keep_every, every_steps=checkpoint_every)
    fields = given(
        engine=engine,
        name=name,
        seed=seed,
        replicas=replicas,
        determinism=determinism,
        tags=tag,
        priority=priority,
        checkpoints=policy or None,
        resources=given(gpus=gpus) or None,
        on_existing=on_existing,
        test_on=test_on,
        test_at=test_at,
        test_every=test_every,
    )
    submission.submit(
        submission.Wanted(file, fields, start, set_ or []),
        data=data or [],
        key=idempotency_key,
        follow=follow,
        as_json=json,
    )


def check(
    file: Config = None,
    base: Base = None,
    mode: ModeOption = None,
    branch: Branch = None,
    fitting: FittingOption = None,
    on_mismatch: Mismatch = None,
    allow: Allow = None,
    seed: Seed = None,
    replicas: Replicas = None,
    gpus: Gpus = None,
    on_existing: Existing = None,
    test_on: TestOn = None,
    test_at: TestAt = None,
    test_every: TestEvery = None,
    set_: Settings = None,
    engine: Engine = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say in words where each value came from.")] = False,
    json: Json = False,
) -> None:
    """Resolve an input.json without submitting it: where values and weights come from, and what is wrong."""
    from app.cli import starting, submission

    start = starting.read(base=base, mode=mode, branch=branch, fitting=fitting, on_mismatch=on_mismatch, allow=allow)
    wanted = submission.Wanted(
        file,
        given(
            engine=engine,
            seed=seed,
            replicas=replicas,
            resources=given(gpus=gpus) or None,
            on_existing=on_existing,
            test_on=test_on,
            test_at=test_at,
            test_every=test_every,
        ),
        start,
        set_ or [],
    )
    submission.check(wanted, explain=explain, as_json=json)


def provenance(job: Job, json: Json = False) -> None:
    """Show where a job's configuration and weights came from."""
    from app.cli import comparing

    comparing.print_provenance(job, as_json=json)


def diff(
    left: Job,
    right: Annotated[int, typer.Argument(metavar="JOB", help="The other job's number.", min=1)],
    json: Json = False,
) -> None:
    """Compare two jobs' configurations, by value and by origin."""
    from app.cli import comparing

    comparing.print_diff(left, right, as_json=json)


def ls(
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state. Repeatable.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only jobs with this tag.")] = None,
    name: Annotated[str | None, typer.Option(help="Only jobs whose name contains this.")] = None,
    engine: Annotated[str | None, typer.Option(help="Only jobs of this engine.")] = None,
    group: Annotated[int | None, typer.Option(min=1, help="Only jobs of this group.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXPRESSION",
            help='On the resolved config: "descriptor.rcut > 6", "explicit:rcut". Repeatable; all must hold.',
        ),
    ] = None,
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List jobs, newest first."""
    from app.cli import looking

    looking.list_jobs(
        given(state=state, engine=engine, group=group, tag=tag, name=name, where=where), limit=limit, as_json=json
    )


def show(job: Job, json: Json = False) -> None:
    """Show a job: state, cause of a failure, attempts, checkpoints, warnings."""
    from app.cli import looking

    looking.show_job(job, as_json=json)


def watch(job: Job, json: Json = False) -> None:
    """Watch a job's progress until it ends. Ctrl-C leaves it running."""
    from app.cli import watching

    watching.watch(job, as_json=json)


def logs(
    job: Job,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the job ends.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only the last lines.")] = None,
    attempt: Annotated[int | None, typer.Option(min=1, help="Of this execution [default: the newest].")] = None,
    json: Json = False,
) -> None:
    """Print a job's log."""
    from app.cli import logtext

    logtext.logs(job, follow_on=follow, tail=tail, attempt=attempt, as_json=json)


def cancel(
    job: Job,
    now: Annotated[bool, typer.Option("--now", help="Without a final checkpoint.")] = False,
    json: Json = False,
) -> None:
    """Stop a job after a final checkpoint."""
    from app.cli import looking

    looking.cancel_job(job, now=now, as_json=json)


def download(
    job: Job,
    what: Annotated[What, typer.Argument(help="What to download.")] = What.checkpoint,
    step: Annotated[int | None, typer.Option(min=0, help="Of this step [default: the newest].")] = None,
    output: Output = None,
    all_files: Annotated[
        bool, typer.Option("--all-files", help="Also its files beside the engine's own: exports for other programs.")
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Download a checkpoint, the bundle, the learning curve, or the files of a job that is no training; verifies them."""
    from app.cli import downloading

    target = downloading.Target(output, force=force)
    downloading.download(job, what.value, step=step, all_files=all_files, target=target, as_json=json)
