"""Submitting, checking, listing, showing, watching, cancelling: against a real server."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.app.cli.conftest import Cairn, Server
from tests.app.simulated import SimulatedAttempt, SimulatedWorker


@pytest.fixture
def job(cairn: Cairn, file: Path, empty_queue: None) -> int:
    """A queued job, the only one."""
    return int(cairn("submit", file, "--json").json["id"])


@pytest.fixture
def attempt(worker: SimulatedWorker, job: int) -> SimulatedAttempt:
    """That job, claimed by a worker."""
    return worker.claim(job)


def test_submit_sends_what_the_options_say(cairn: Cairn, file: Path) -> None:
    options = ("--name", "water", "--seed", 7, "--determinism", "strict", "--tag", "a", "--tag", "b", "--priority", 5)
    policy = ("--keep-last", 3, "--checkpoint-every", 50)
    job = cairn("submit", file, *options, *policy, "--set", "training.numb_steps=123", "--json").json
    assert (job["name"], job["seed"], job["determinism"]) == ("water", 7, "strict")
    assert (job["tags"], job["priority"], job["progress"]["total_steps"]) == (["a", "b"], 5, 123)
    assert job["submitted"]["checkpoints"] == {"keep_last": 3, "every_steps": 50}


def test_submit_says_which_job_it_made_and_how_to_watch_it(cairn: Cairn, file: Path) -> None:
    done = cairn("submit", file, "--name", "water")
    assert done.code == 0
    assert "water is queued: 1,000 steps, seed" in done.out
    assert "cairn watch" in done.out


def test_submit_reads_standard_input(cairn: Cairn, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with file.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert cairn("submit", "-", "--json").json["state"] == "queued"


@pytest.mark.parametrize("form", ["directory", "archive", "named archive"])
def test_data_goes_along_and_paths_mean_its_systems(
    cairn: Cairn, config: dict[str, Any], systems: Path, tmp_path: Path, form: str
) -> None:
    config["training"]["training_data"]["systems"] = ["../data/md"]
    (tmp_path / "input.json").write_text(json.dumps(config))
    (tmp_path / "along").symlink_to(systems)
    with tarfile.open(tmp_path / "along.tar.gz", "w:gz") as tar:
        tar.add(systems, arcname="data")
    data = {"directory": "along/", "archive": "along.tar.gz", "named archive": f"named={tmp_path}/along.tar.gz"}[form]
    path = data if "=" in data else str(tmp_path / data)
    job = cairn("submit", tmp_path / "input.json", "--data", path, "--json").json
    (used,) = job["resolved"]["training"]["training_data"]["systems"]
    name = {"directory": systems.name, "archive": "along", "named archive": "named"}[form]
    assert used.startswith(f"dataset:{name}@1/")
    assert used.endswith("md")


def test_data_that_cannot_be_read_is_wrong_usage(cairn: Cairn, file: Path, tmp_path: Path) -> None:
    assert cairn("submit", file, "--data", tmp_path / "none.tar").code == 2


def test_one_key_makes_one_job(cairn: Cairn, file: Path) -> None:
    key = ("--idempotency-key", f"key-{time.time_ns()}", "--json")
    assert cairn("submit", file, *key).json["id"] == cairn("submit", file, *key).json["id"]
    assert cairn("submit", file, "--json").json["id"] != cairn("submit", file, "--json").json["id"]


def test_every_mistake_is_shown_with_the_line_it_stands_on(cairn: Cairn, config: dict[str, Any], file: Path) -> None:
    config["model"]["descriptor"]["rcutt"] = 6.0
    config["training"]["training_data"]["systems"] = ["dataset:coper/md"]
    file.write_text(json.dumps(config, indent=4))
    before = cairn("ls", "--json").json
    done = cairn("submit", file)
    assert done.code == 1
    assert done.out == ""
    lines = file.read_text().splitlines()
    for words in ('"rcutt"', '"dataset:coper/md"'):
        number = next(index for index, line in enumerate(lines, 1) if words in line)
        assert f"{number} | {lines[number - 1]}" in done.err, words
    assert "coper" in done.err
    assert "dataset:copper" in done.err, "the near name"
    assert cairn("ls", "--json").json == before


def test_a_mistake_that_an_option_made_is_shown_as_that_option(cairn: Cairn, file: Path) -> None:
    done = cairn("submit", file, "--set", "training.numb_steps=-5")
    assert done.code == 1
    assert "--set training.numb_steps=-5" in done.err
    assert " | " not in done.err


def test_mistakes_as_json_are_the_servers_own(cairn: Cairn, file: Path) -> None:
    done = cairn("submit", file, "--set", "training.numb_steps=-5", "--json")
    assert (done.code, done.out) == (1, "")
    body = json.loads(done.err)
    assert body["pointer"] == "/config/training/numb_steps"
    assert {"code", "message", "pointer", "hint", "problems"} <= set(body)


def test_check_shows_where_values_come_from_and_makes_no_job(cairn: Cairn, file: Path) -> None:
    before = cairn("ls", "--json").json
    done = cairn("check", file, "--seed", 3)
    assert done.code == 0
    assert "This would run." in done.out
    assert "explicit" in done.out
    assert "seed 3" in done.out
    assert cairn("check", file, "--json").json["origins"]["/training/numb_steps"]["origin"] == "explicit"
    assert cairn("check", file, "--set", "training.numb_steps=0").code == 1
    assert cairn("ls", "--json").json == before


def test_ls_filters(cairn: Cairn, file: Path) -> None:
    tag = f"t{time.time_ns()}"
    ids = [cairn("submit", file, "--tag", tag, "--name", name, "--json").json["id"] for name in ("alpha", "beta")]
    cairn("cancel", ids[1])
    assert [job["id"] for job in cairn("ls", "--tag", tag, "--json").json] == ids[::-1]
    assert [job["id"] for job in cairn("ls", "--tag", tag, "--state", "queued", "--json").json] == ids[:1]
    assert [job["id"] for job in cairn("ls", "--tag", tag, "--name", "BET", "--json").json] == ids[1:]
    assert [job["id"] for job in cairn("ls", "--tag", tag, "--limit", 1, "--json").json] == ids[1:]
    shown = cairn("ls", "--tag", tag)
    assert "alpha" in shown.out
    assert "cancelled" in shown.out
    assert "No jobs" in cairn("ls", "--tag", "unused").out


def test_ls_follows_the_cursor_over_pages(cairn: Cairn, file: Path) -> None:
    tag = f"many{time.time_ns()}"
    ids = [cairn("submit", file, "--tag", tag, "--json").json["id"] for _ in range(3)]
    assert [job["id"] for job in cairn("ls", "--tag", tag, "--limit", 150, "--json").json] == ids[::-1]


def test_show_tells_progress_cause_and_checkpoints(cairn: Cairn, attempt: SimulatedAttempt, job: int) -> None:
    attempt.heartbeat(step=5)
    attempt.metrics(0, [1, 5], **{"train/rmse_e": [2.0, 0.0125], "train/rmse_f": [1.0, 0.5], "lr": [1e-3, 1e-3]})
    attempt.checkpoint(5)
    running = cairn("show", job)
    assert "step 5 of 1000" in running.out
    assert "train/rmse_e 12.5 meV/atom" in running.out
    assert "train/rmse_f 500 meV/Å" in running.out
    assert "model.ckpt-5.pt" in running.out
    assert "newest" in running.out, "why the checkpoint is kept"
    attempt.end("failed", 5, "non-finite")
    assert "non-finite: it was non-finite" in cairn("show", job).out
    assert cairn("show", job, "--json").json["checkpoints"][0]["step"] == 5


def test_cancel_asks_for_a_checkpoint_unless_it_must_be_now(cairn: Cairn, attempt: SimulatedAttempt, job: int) -> None:
    assert "stopping" in cairn("cancel", job).out
    assert attempt.heartbeat().json()["how"] == "checkpoint"
    assert cairn("cancel", job, "--now", "--json").json["state"] == "stopping"
    assert attempt.heartbeat().json()["how"] == "now"
    attempt.end("stopped", 3)
    again = cairn("cancel", job)
    assert again.code == 1 or "cancelled" in again.out


def test_a_job_that_does_not_exist_is_named(cairn: Cairn) -> None:
    done = cairn("show", 999_999)
    assert done.code == 1
    assert "999999" in done.err


def script(attempt: SimulatedAttempt, outcome: str, failure: str | None = None) -> threading.Thread:
    """Let a worker report a few steps and then the end, while the test watches."""

    def report() -> None:
        for step in (100, 200, 300):
            attempt.heartbeat(step=step)
            attempt.metrics(step, [step], **{"train/loss": [10.0 / step], "train/rmse_f": [0.1]})
            time.sleep(0.7)
        attempt.end(outcome, 1000 if outcome == "completed" else 300, failure)

    thread = threading.Thread(target=report)
    thread.start()
    return thread


def test_watch_follows_a_job_to_its_end(cairn: Cairn, attempt: SimulatedAttempt, job: int) -> None:
    thread = script(attempt, "completed")
    done = cairn("watch", job)
    thread.join()
    assert done.code == 0
    assert "rmse_f 100 meV/Å" in done.out
    assert f"Job {job} completed after 1000 steps" in done.out


def test_watch_as_json_is_one_object_a_line(cairn: Cairn, attempt: SimulatedAttempt, job: int) -> None:
    thread = script(attempt, "completed")
    done = cairn("watch", job, "--json")
    thread.join()
    lines = [json.loads(line) for line in done.out.splitlines()]
    steps = [line["progress"]["step"] for line in lines]
    assert steps == sorted(steps)
    assert {200, 300} & set(steps), "progress was seen, not only the end"
    assert lines[-1]["state"] == "completed"


def test_watching_a_job_that_fails_fails_with_its_cause(cairn: Cairn, attempt: SimulatedAttempt, job: int) -> None:
    thread = script(attempt, "failed", "non-finite")
    done = cairn("watch", job)
    thread.join()
    assert done.code == 1
    assert "it was non-finite" in done.err
    assert f"cairn logs {job}" in done.err


def test_ctrl_c_ends_the_watching_and_not_the_job(server: Server, attempt: SimulatedAttempt, job: int) -> None:
    # A shell starts what runs in the background with Ctrl-C ignored, and children inherit that.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "app.cli.main", "watch", str(job)]
    environment = os.environ | {"CAIRN_URL": server.url, "CAIRN_TOKEN": server.token()}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        _, told = watching.communicate(timeout=120)
    assert watching.returncode == 130
    assert f"Job {job} goes on" in told.decode()
    assert attempt.heartbeat().json()["action"] == "continue"


def test_submit_and_follow_in_one_command(
    cairn: Cairn, file: Path, worker: SimulatedWorker, server: Server, empty_queue: None
) -> None:
    def work() -> None:
        with server.client() as client:
            while not (jobs := client.get("/api/v1/jobs", params={"name": "followed"}).json()["items"]):
                time.sleep(0.05)
        worker.claim(jobs[0]["id"]).end("completed", 1000)

    thread = threading.Thread(target=work)
    thread.start()
    done = cairn("submit", file, "--name", "followed", "--follow", "--json")
    thread.join()
    assert done.code == 0
    assert json.loads(done.out.splitlines()[-1])["state"] == "completed"


def test_logs_are_printed_whole_or_from_the_end(cairn: Cairn, attempt: SimulatedAttempt, job: int) -> None:
    text = "".join(f"line {number} Å\n" for number in range(300))
    attempt.log(text.encode())
    assert cairn("logs", job).out == text
    assert cairn("logs", job, "--tail", 2).out == "line 298 Å\nline 299 Å\n"
    assert cairn("logs", job, "--tail", 0).out == ""
    last = cairn("logs", job, "--tail", 1, "--json").out
    assert json.loads(last) == {"attempt": 1, "line": "line 299 Å"}


def test_logs_follow_a_job_over_its_executions(
    cairn: Cairn, attempt: SimulatedAttempt, worker: SimulatedWorker, job: int, server: Server
) -> None:
    def work() -> None:
        for number in range(4):
            attempt.log(f"first {number}\n".encode())
            time.sleep(0.4)
        attempt.end("interrupted", 3)
        second = worker.claim(job, 2)
        second.log(b"second\n")
        time.sleep(0.8)
        second.end("completed", 1000)

    attempt.log(b"before\n")
    thread = threading.Thread(target=work)
    thread.start()
    done = cairn("logs", job, "--follow", "--tail", 1)
    thread.join()
    printed = done.out.splitlines()
    assert [line for line in printed if line.startswith("first")] == [f"first {number}" for number in range(4)]
    assert printed[-1] == "second"
    assert "execution 2" in done.err
