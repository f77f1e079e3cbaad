"""Comparing and reproducing jobs: against a real server, with a worker that trains nothing."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from app.cli import reproducing
from tests.app.cli.conftest import Cairn, Server
from tests.app.simulated import SimulatedAttempt, SimulatedWorker

LOSS, FORCE = "train/loss", "train/rmse_f"


@pytest.fixture(autouse=True)
def _compared_at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare as often as the job is looked at: in the seconds of a test's pause a slow machine would hardly do it once."""
    monkeypatch.setattr(reproducing, "COMPARE_S", 0.0)


@pytest.fixture
def attempt(cairn: Cairn, file: Path, worker: SimulatedWorker, empty_queue: None) -> SimulatedAttempt:
    """A job in its first attempt, the only one."""
    return worker.claim(
        int(cairn("submit", file, "--name", "water", "--seed", 7, "--on-existing", "new", "--json").json["id"])
    )


@pytest.fixture
def other(cairn: Cairn, file: Path, worker: SimulatedWorker, attempt: SimulatedAttempt) -> SimulatedAttempt:
    """Another job of the same spec, in its first attempt."""
    return worker.claim(int(cairn("submit", file, "--seed", 7, "--on-existing", "new", "--json").json["id"]))


def number(attempt: SimulatedAttempt) -> int:
    return int(attempt.claim["job_id"])


def train(attempt: SimulatedAttempt, last: int, first: int = 1, changed: int | None = None) -> None:
    """Send metrics of steps; at step `changed` one of them is a unit in the last place larger."""
    steps = list(range(first, last + 1))
    force = [math.nextafter(1.0 / step, 2.0) if step == changed else 1.0 / step for step in steps]
    answer = attempt.metrics(first, steps, **{LOSS: [2.0 / step for step in steps], FORCE: force})
    assert answer.status_code == 204, answer.text


def end(*attempts: SimulatedAttempt) -> None:
    for attempt in attempts:
        attempt.end("completed", 1000)


def test_identical_runs_are_told_with_exit_code_0(
    cairn: Cairn, attempt: SimulatedAttempt, other: SimulatedAttempt
) -> None:
    for one in (attempt, other):
        train(one, 1000)
        one.checkpoint(200)
    end(attempt, other)
    done = cairn("compare", number(attempt), number(other))
    assert done.code == 0
    assert f"Jobs {number(attempt)} and {number(other)}: identical: 1,000 steps, 1 checkpoint" in done.out


def test_a_difference_is_shown_in_full_with_exit_code_1(
    cairn: Cairn, attempt: SimulatedAttempt, other: SimulatedAttempt
) -> None:
    train(attempt, 1000)
    train(other, 1000, changed=640)
    attempt.environment({"host": "one", "libraries": {"torch": "2.11"}})
    other.environment({"host": "two", "gpus": []})
    attempt.checkpoint(1000, torch="a" * 64)
    other.checkpoint(1000, torch="b" * 64)
    done = cairn("compare", number(attempt), number(other))
    assert done.code == 1
    assert "diverged at step 640: train/rmse_f is" in done.out
    value = 1.0 / 640
    for shown in (value, math.nextafter(value, 2.0)):
        assert f"{shown:.17g}" in done.out
        assert shown.hex() in done.out
    assert "generators at step 1,000: torch different aaaaaaaaaaaa bbbbbbbbbbbb" in done.out
    assert "Different environments" in done.out
    assert "/libraries/torch" in done.out
    found = cairn("compare", number(attempt), number(other), "--json")
    assert (found.code, found.json["divergence"]["step"]) == (1, 640)


def test_runs_that_go_on_are_undecided_with_exit_code_5(
    cairn: Cairn, attempt: SimulatedAttempt, other: SimulatedAttempt
) -> None:
    nothing = cairn("compare", number(attempt), number(other))
    assert (nothing.code, "nothing to compare yet" in nothing.out) == (5, True)
    train(attempt, 1000)
    train(other, 240)
    so_far = cairn("compare", number(attempt), number(other))
    assert (so_far.code, "identical so far (240 steps)" in so_far.out) == (5, True)


def test_what_was_submitted_differently_is_shown(
    cairn: Cairn, file: Path, attempt: SimulatedAttempt, empty_queue: None
) -> None:
    options = ("--set", "model.descriptor.rcut=4.5", "--seed", 8, "--determinism", "strict")
    other = cairn("submit", file, *options, "--json").json["id"]
    done = cairn("compare", number(attempt), other)
    for words in ("/model/descriptor/rcut", "4.5", "/seed", "/determinism", "strict"):
        assert words in done.out


def test_a_job_that_does_not_exist_is_named(cairn: Cairn) -> None:
    for done in (cairn("compare", 999_998, 999_999), cairn("reproduce", 999_998)):
        assert done.code == 1
        assert "999998" in done.err


def test_reproduce_makes_a_job_of_the_same_spec(cairn: Cairn, attempt: SimulatedAttempt, empty_queue: None) -> None:
    done = cairn("reproduce", number(attempt))
    assert done.code == 0
    assert f"runs job {number(attempt)} again: reproduction of water is queued" in done.out
    job = cairn("reproduce", number(attempt), "--name", "again", "--json").json
    assert (job["name"], job["reproduces"], job["seed"]) == ("again", number(attempt), 7)
    assert f"job {number(attempt)}" in cairn("show", job["id"]).out


def test_another_version_needs_to_be_allowed(cairn: Cairn, attempt: SimulatedAttempt, empty_queue: None) -> None:
    attempt.environment({"libraries": {"deepmd-kit": "2.2.7"}})
    refused = cairn("reproduce", number(attempt))
    assert refused.code == 1
    assert "deepmd-kit 2.2.7" in refused.err
    assert cairn("reproduce", number(attempt), "--allow-other-versions").code == 0


def train_reproduction(
    server: Server, worker: SimulatedWorker, original: int, changed: int | None = None
) -> threading.Thread:
    """Let a worker train the next job that reproduces `original`, in pieces."""

    def work() -> None:
        with server.client() as client:
            while not (jobs := client.get("/api/v1/jobs", params={"state": "queued"}).json()["items"]):
                time.sleep(0.05)
        assert jobs[0]["reproduces"] == original
        again = worker.claim(jobs[0]["id"])
        train(again, 240)
        again.heartbeat(step=240)
        time.sleep(3)
        train(again, 1000, first=241, changed=changed)
        again.end("completed", 1000)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_followed_reproduction_tells_how_far_it_is_identical_and_the_verdict(
    cairn: Cairn, server: Server, worker: SimulatedWorker, attempt: SimulatedAttempt
) -> None:
    train(attempt, 1000)
    end(attempt)
    thread = train_reproduction(server, worker, number(attempt))
    done = cairn("reproduce", number(attempt), "--follow")
    thread.join()
    assert done.code == 0
    assert "identical so far (240 steps)" in done.out
    assert done.out.splitlines()[-1].endswith("identical: 1,000 steps, 0 checkpoints")


def test_a_followed_reproduction_that_diverges_fails(
    cairn: Cairn, server: Server, worker: SimulatedWorker, attempt: SimulatedAttempt
) -> None:
    train(attempt, 1000)
    end(attempt)
    thread = train_reproduction(server, worker, number(attempt), changed=777)
    done = cairn("reproduce", number(attempt), "--follow", "--json")
    thread.join()
    assert done.code == 1
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert 240 in [line["steps"] for line in lines]
    assert (lines[-1]["verdict"], lines[-1]["divergence"]["step"]) == ("diverged", 777)


def test_on_a_terminal_the_words_stand_below_the_bar(
    server: Server, worker: SimulatedWorker, attempt: SimulatedAttempt
) -> None:
    train(attempt, 1000)
    end(attempt)
    thread = train_reproduction(server, worker, number(attempt))
    # A shell starts what runs in the background with Ctrl-C ignored, and children inherit that.
    command = [
        "env",
        "--default-signal=INT",
        sys.executable,
        "-m",
        "app.cli.main",
        "reproduce",
        str(number(attempt)),
        "--follow",
    ]
    environment = {"CAIRN_URL": server.url, "CAIRN_TOKEN": server.token(), "FORCE_COLOR": "1", "COLUMNS": "120"}
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    thread.join()
    assert done.returncode == 0, done.stderr
    assert "identical so far (240 steps)" in done.stdout
    assert "reproduction of water" in done.stdout


def test_ctrl_c_ends_the_following_and_not_the_job(server: Server, attempt: SimulatedAttempt) -> None:
    # A shell starts what runs in the background with Ctrl-C ignored, and children inherit that.
    command = [
        "env",
        "--default-signal=INT",
        sys.executable,
        "-m",
        "app.cli.main",
        "reproduce",
        str(number(attempt)),
        "--follow",
    ]
    environment = os.environ | {"CAIRN_URL": server.url, "CAIRN_TOKEN": server.token()}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
        assert following.stdout is not None
        assert b"nothing to compare yet" in following.stdout.readline()
        following.send_signal(signal.SIGINT)
        _, told = following.communicate(timeout=120)
    assert following.returncode == 130
    assert "goes on. `cairn compare" in told.decode()
    with server.client() as client:
        assert client.get("/api/v1/jobs").json()["items"][0]["state"] == "queued"
