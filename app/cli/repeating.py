"""`cairn compare|reproduce`: what the commands are called and take."""

from typing import Annotated

import typer

from app.cli.options import Job, Json, given


def compare(
    left: Job,
    right: Annotated[int, typer.Argument(metavar="JOB", help="The other job's number.", min=1)],
    json: Json = False,
) -> None:
    """Compare two runs bit for bit: every step, every fingerprint. Exit code 0: identical, 1: diverged, 5: undecided."""
    from app.cli import reproducing

    reproducing.compare(left, right, as_json=json)


def reproduce(
    job: Job,
    name: Annotated[str | None, typer.Option(help="Name of the new job [default: reproduction of NAME].")] = None,
    allow_other_versions: Annotated[
        bool,
        typer.Option(
            "--allow-other-versions", help="Also with another version of the engine's library than it ran with."
        ),
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Compare while it runs, until it ends.")] = False,
    json: Json = False,
) -> None:
    """Run a job again from its frozen spec: the same config, data, base and seeds."""
    from app.cli import reproducing

    body = given(name=name) | {"allow_other_versions": allow_other_versions}
    reproducing.reproduce(job, body, follow=follow, as_json=json)
