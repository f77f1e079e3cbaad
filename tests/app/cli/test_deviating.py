"""`cairn model-devi`: against a real server, with a worker that computes nothing."""

import hashlib
import itertools
import threading
import time
from pathlib import Path

import pytest

from app.cli.deviating import Levels, summarise
from tests.app.cli.conftest import Cairn, Server
from tests.app.simulated import SimulatedAttempt, SimulatedWorker

HEADER = "# {}\n#       step         max_devi_v         min_devi_v         avg_devi_v         max_devi_f  …\n"


def block(system: str, *deviations: float) -> str:
    """Return the part of a `model_devi.out` about one system, with these `max_devi_f`."""
    rows = [
        f"{step * 10:12d} 9e-1 1e-1 5e-1 {value:.6e} 1e-3 {value / 2:.6e} 2e-2\n"
        for step, value in enumerate(deviations)
    ]
    return HEADER.format(system) + "".join(rows)


SEEDS = itertools.count(1)
"""A training of its own for each: the server is shared."""

FILE = block("copper@1/md", 0.01, 0.20, 0.05, 0.05) + block("copper@1/odd name", 0.3)


@pytest.fixture
def models(cairn: Cairn, file: Path, worker: SimulatedWorker, empty_queue: None) -> list[str]:
    """Two trained models."""
    names = []
    for _ in range(2):
        job_id = cairn("submit", file, "--seed", next(SEEDS), "--json").json["id"]
        attempt = worker.claim(job_id)
        attempt.checkpoint(200, data=f"weights {time.monotonic()}".encode())
        attempt.end("completed", 1000)
        names.append(f"job:{job_id}")
    return names


def next_queued(server: Server) -> int:
    """Return the job that is submitted next."""
    with server.client() as client:
        deadline = time.monotonic() + 30
        while not (waiting := client.get("/api/v1/jobs", params={"state": "queued"}).json()["items"]):
            assert time.monotonic() < deadline, "no job was submitted"
            time.sleep(0.02)
    number: int = waiting[0]["id"]
    return number


def work_beside(server: Server, worker: SimulatedWorker, content: bytes = FILE.encode()) -> threading.Thread:
    """Do the next deviation that is submitted, as a worker would."""

    def work() -> None:
        attempt = worker.claim(next_queued(server))
        attempt.metrics(0, [1, 2, 3, 4], **{"devi/max_f": [0.01, 0.2, 0.05, 0.05]})
        register(attempt, content)
        attempt.end("completed", 4)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def register(attempt: SimulatedAttempt, content: bytes) -> None:
    about = attempt.upload(content) | {"name": "model_devi.out", "media_type": "text/plain"}
    assert attempt.send("POST", f"{attempt.path}/files", json=about).status_code == 204


def test_it_is_watched_summed_up_and_fetched(
    cairn: Cairn, server: Server, worker: SimulatedWorker, models: list[str], copper: str, tmp_path: Path
) -> None:
    beside = work_beside(server, worker)
    target = tmp_path / "out" / "model_devi.out"
    done = cairn("model-devi", *models, "--data", copper, "--lo", 0.05, "--hi", 0.15, "-o", target)
    beside.join()
    assert done.code == 0, done.err
    assert "completed after 4 frames" in done.out
    (row,) = [line for line in done.out.splitlines() if line.startswith("copper@1/md")]
    assert row.split() == ["copper@1/md", "4", "0.0775", "0.2", "10", "0.03875", "1", "2", "1"]
    assert "0.3" in next(line for line in done.out.splitlines() if line.startswith("copper@1/odd name"))
    assert target.read_bytes() == FILE.encode()
    number = done.out.split("Job ")[1].split()[0]
    shown = cairn("show", number).out
    assert f"{models[0]}@200, {models[1]}@200" in shown
    assert "model_devi.out" in shown
    again = cairn("download", number, "files", "-o", f"{tmp_path}/again/").out
    assert hashlib.sha256(FILE.encode()).hexdigest()[:12] in again


def test_json_is_one_object_for_programs(
    cairn: Cairn, server: Server, worker: SimulatedWorker, models: list[str], copper: str
) -> None:
    beside = work_beside(server, worker)
    found = cairn("model-devi", *models, "--data", copper, "--json").json
    beside.join()
    assert [(each["system"], each["frames"], each["at_step"]) for each in found["systems"]] == [
        ("copper@1/md", 4, 10),
        ("copper@1/odd name", 1, 0),
    ]
    assert found["systems"][0]["largest_max_f"] == 0.2


def test_detached_it_only_says_what_was_submitted(cairn: Cairn, models: list[str], copper: str) -> None:
    done = cairn("model-devi", *models, "--data", copper, "--stride", 2, "--detach")
    assert (done.code, "2 models, 2 frames" in done.out) == (0, True)


def test_what_is_wrong_is_said_with_its_place(cairn: Cairn, models: list[str], copper: str) -> None:
    refused = cairn("model-devi", models[0], "job:999999", "--data", copper)
    assert (refused.code, "/config/models/1" in refused.err) == (1, True)
    for levels in (("--lo", 1), ("--lo", 2, "--hi", 1)):
        assert cairn("model-devi", *models, "--data", copper, *levels).code == 2
    assert cairn("download", models[0].removeprefix("job:"), "files").code == 1


def test_a_deviation_that_is_no_number_counts_as_the_largest() -> None:
    (one,) = summarise(block("s", 0.1, float("nan"), 0.2).splitlines(), Levels(0.05, 0.15))
    assert (one.frames, one.at_step, one.counts["failed"]) == (3, 10, 2)
    assert one.as_json()["largest_max_f"] is None
