"""`cairn test-on`: on which data a training is tested by itself, and what was found so far."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from app.cli.api import connect, view
from app.cli.errors import print_tests
from app.cli.failures import usage
from app.cli.screen import out, print_json
from app.wire.jobs import JobDetail
from app.wire.measuring import Measured


def hold_out(job_id: int, data: Sequence[str], steps: Mapping[str, Any], *, none: bool, as_json: bool) -> None:
    """Say on which data a training is tested, and at which `steps`, in place of what was said before; else only show it."""
    if data and none:
        raise usage("--none and data exclude each other.", hint="Name the data, or say --none.")
    if steps and not data:
        raise usage("Steps say nothing without data.", hint="Name the data to test on, too.")
    with connect() as api:
        if data or none:
            found = api.request("PUT", f"/jobs/{job_id}/test-on", json={"data": list(data), **steps}).json()
        else:
            found = api.get(f"/jobs/{job_id}")
        tests = api.get(f"/jobs/{job_id}/tests")
    if as_json:
        print_json({**{key: found[key] for key in ("test_on", "test_at", "test_every")}, "tests": tests})
        return
    out().print(words(view(JobDetail, found)), soft_wrap=True)
    print_tests([view(Measured, one) for one in tests])


def words(job: JobDetail) -> str:
    """Return on which data a training is yet to be tested, and when."""
    if not job.test_on:
        return f"Job {job.id} is to be tested on nothing more."
    when = "soon" if job.state == "completed" else "once it has completed"
    return f"Job {job.id} is tested on {escape(', '.join(job.test_on))} {when}{chosen(job)}."


def chosen(job: JobDetail) -> str:
    """Return at which checkpoints beside its last a training is tested, as the end of a sentence."""
    parts = [f"step {', '.join(map(str, job.test_at))}"] if job.test_at else []
    parts += [f"every {job.test_every} steps"] if job.test_every else []
    return f", and at {' and '.join(parts)}" if parts else ""
