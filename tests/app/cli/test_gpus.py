"""Jobs of several GPUs from the command line, against a real server."""

from pathlib import Path

from tests.app.cli.conftest import Cairn
from tests.app.simulated import SimulatedWorker


def test_a_job_of_several_gpus_says_what_it_needs_and_what_there_is(
    cairn: Cairn, file: Path, worker: SimulatedWorker, empty_queue: None
) -> None:
    """The only worker has twenty slots and no GPU."""
    lacks = "it needs 32 GPUs of one worker; the largest worker has 20"
    submitted = cairn("submit", file, "--gpus", 32)
    assert submitted.code == 0, submitted.err
    assert lacks in submitted.out
    assert "each step takes 32 batches" in submitted.err + submitted.out
    job = cairn("ls", "--json").json[0]
    assert job["resources"] == {"gpus": 32}
    shown = cairn("show", job["id"]).out
    assert lacks in " ".join(shown.split())
    assert cairn("check", file, "--gpus", 2).code == 0
    cairn("cancel", job["id"])
