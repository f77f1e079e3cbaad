"""`cairn submit --replicas` and `cairn group`, against a real server."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.app.cli.conftest import Cairn
from tests.app.simulated import SimulatedWorker


@pytest.fixture
def group(cairn: Cairn, file: Path, empty_queue: None) -> dict[str, Any]:
    """A group of three replicas that wait."""
    first = cairn("submit", file, "--replicas", 3, "--name", "cu", "--json").json
    found: dict[str, Any] = cairn("group", "show", first["group"], "--json").json
    return found


def train(worker: SimulatedWorker, group: dict[str, Any], values: list[float]) -> None:
    for job, value in zip(group["jobs"], values, strict=True):
        attempt = worker.claim(job["id"])
        attempt.metrics(0, [10], **{"train/rmse_f": [value], "lr": [0.001]})
        attempt.checkpoint(10, f"weights of {job['id']}".encode())
        attempt.end("completed", 1000)


def test_submitting_replicas_tells_the_group(cairn: Cairn, file: Path) -> None:
    done = cairn("submit", file, "--replicas", 2, "--seed", 7, "--set", "model.descriptor.seed=1")
    assert done.code == 0, done.err
    assert "has 2 replicas, root seed 7: jobs " in done.out
    assert "model.descriptor.seed is 1 in every replica" in done.err
    assert "--set model.descriptor.seed=1" in done.err
    alone = cairn("submit", file, "--replicas", 2, "--follow")
    assert (alone.code, "--follow watches one job" in alone.err) == (2, True)


def test_checking_replicas_tells_the_roots(cairn: Cairn, file: Path) -> None:
    done = cairn("check", file, "--replicas", 2, "--seed", 7)
    assert (done.code, "2 replicas of root 7" in done.out) == (0, True), done.err


def test_a_group_is_shown_with_its_statistics(cairn: Cairn, worker: SimulatedWorker, group: dict[str, Any]) -> None:
    train(worker, group, [0.080, 0.082, float("nan")])
    done = cairn("group", "show", group["id"])
    assert f"3 replicas, seed {group['seed']}: 3 completed" in done.out
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    wrong = group["jobs"][2]["id"]
    assert f"train/rmse_f 2 81.0 ± 1.4 meV/Å 68.29 … 93.71 job {wrong}: non-finite" in lines
    assert "lr 3 0.001 ± 0 0.001 … 0.001" in lines
    assert f"3 {wrong} completed 1000/1000 {group['jobs'][2]['seed']}" in lines
    assert cairn("group", "show", 999).code == 1
    assert f"group {group['id']}, replica 3" in " ".join(cairn("show", wrong).out.split())
    found = cairn("ls", "--group", group["id"], "--json").json
    assert [job["id"] for job in reversed(found)] == [job["id"] for job in group["jobs"]]
    listed = cairn("group", "ls")
    assert "3 completed" in listed.out
    assert cairn("group", "ls", "--json", "--limit", 1).json[0]["id"] == group["id"]


def test_a_group_is_paused_resumed_and_cancelled(cairn: Cairn, group: dict[str, Any]) -> None:
    number, jobs = group["id"], [job["id"] for job in group["jobs"]]
    paused = cairn("group", "pause", number)
    assert f"3 of group {number} paused, or stopping for it: jobs {', '.join(map(str, jobs))}." in paused.out
    again = cairn("group", "pause", number)
    assert f"0 of group {number}" in again.out
    assert f"unchanged: job {jobs[0]} is paused already" in again.out
    assert cairn("group", "resume", number, "--json").json["changed"] == jobs
    assert cairn("group", "cancel", number, "--reason", "enough", "--json").json["changed"] == jobs
    assert "3 cancelled" in cairn("group", "show", number).out


def test_the_ensemble_is_downloaded(
    cairn: Cairn, worker: SimulatedWorker, group: dict[str, Any], tmp_path: Path
) -> None:
    refused = cairn("group", "download", group["id"])
    assert (refused.code, "replica 1" in refused.err) == (1, True)
    train(worker, group, [0.1, 0.1, 0.1])
    done = cairn("group", "download", group["id"], "-o", tmp_path / "e.zip")
    assert done.code == 0, done.err
    with zipfile.ZipFile(tmp_path / "e.zip") as archive:
        index = next(name for name in archive.namelist() if name.endswith("ensemble.json"))
        assert [model["job"] for model in json.loads(archive.read(index))["models"]] == [
            job["id"] for job in group["jobs"]
        ]
    assert cairn("group", "download", group["id"], "--step", 11, "-o", tmp_path / "f.zip").code == 1
