"""Pausing, resuming, retrying, extending, cloning and reordering jobs from the command line, against a real server."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.app.cli.conftest import Cairn
from tests.app.simulated import SimulatedErrand, SimulatedWorker


@pytest.fixture
def job(cairn: Cairn, file: Path, empty_queue: None) -> int:
    """A job that waits."""
    return int(cairn("submit", file, "--name", "water", "--tag", "t", "--json").json["id"])


def test_a_job_is_paused_resumed_and_retried(cairn: Cairn, job: int, worker: SimulatedWorker) -> None:
    assert f"Job {job} is paused." in cairn("pause", job, "--reason", "lunch").out
    assert re.search(r"why +lunch", cairn("show", job).out)
    assert cairn("resume", job, "--json").json["state"] == "queued"
    attempt = worker.claim(job)
    attempt.checkpoint(200)
    stopping = cairn("pause", job).out
    assert f"Job {job} is stopping." in stopping
    assert f"`cairn resume {job}`" in stopping
    early = cairn("resume", job)
    assert (early.code, "still-stopping" in early.err) == (1, True)
    attempt.end("stopped", 200)
    cairn("resume", job)
    worker.claim(job, 2).end("failed", 200, "data")
    refused = cairn("retry", job)
    assert (refused.code, f"cairn clone {job}" in refused.err) == (1, True)
    assert f"Job {job} is queued." in cairn("retry", job, "--force").out


def test_retention_is_shown_tried_and_changed(cairn: Cairn, job: int, worker: SimulatedWorker) -> None:
    assert "no checkpoint (yet)" in cairn("retention", job).out
    attempt = worker.claim(job)
    for step in (100, 200, 300, 400):
        assert attempt.checkpoint(step).status_code == 200
    shown = cairn("retention", job)
    assert f"Job {job} keeps the newest 5 checkpoints" in shown.out
    assert "removed" not in shown.out
    tried = cairn("retention", job, "--last", 2, "--every", 100, "--dry-run").out
    assert "would keep the newest 2 checkpoints, those of every 100 steps" in tried
    assert "newest, every 100" in tried
    tried = cairn("retention", job, "--last", 2, "--best", "train/loss", "--dry-run").out
    assert tried.count("would be removed") == 2
    assert "2 of 4 checkpoints" in tried
    assert len(cairn("retention", job, "--json").json["kept"]) == 4

    cairn("retention", job, "--every", 200)
    done = cairn("retention", job, "--last", 2)
    assert "keeps the newest 2 checkpoints, those of every 200 steps" in done.out
    left = cairn("retention", job, "--every", 0, "--json").json
    assert ([one["step"] for one in left["kept"]], left["removed"], left["policy"]["keep_every"]) == (
        [400, 300], [{**left["removed"][0], "step": 200}], None,
    )  # fmt: skip
    unknown = cairn("retention", job, "--best", "val/nothing")
    assert (unknown.code, "unknown-metric" in unknown.err) == (1, True)


def test_data_to_be_tested_on_are_shown_named_and_taken_back(cairn: Cairn, job: int) -> None:
    assert f"Job {job} is to be tested on nothing more." in cairn("test-on", job).out
    said = f"Job {job} is tested on dataset:copper@1/md once it has completed."
    assert said in cairn("test-on", job, "dataset:copper/md").out
    assert said in cairn("test-on", job).out
    assert "dataset:copper@1/md" in cairn("show", job).out
    wrong = cairn("test-on", job, "metal=dataset:copper")
    assert (wrong.code, "no-such-head" in wrong.err) == (1, True)
    assert cairn("test-on", job, "dataset:copper", "--none").code == 2
    chosen = cairn("test-on", job, "dataset:copper/md", "--at", 1000, "--every", 500)
    assert "or another multiple" in chosen.err, "a checkpoint is written every 1000 steps"
    chosen = cairn("test-on", job, "dataset:copper/md", "--at", 1000, "--every", 1000)
    assert f"{said[:-1]}, and at step 1000 and every 1000 steps." in chosen.out
    assert cairn("test-on", job, "--every", 1000).code == 2
    nothing = {"test_on": [], "test_at": [], "test_every": None, "tests": []}
    assert cairn("test-on", job, "--none", "--json").json == nothing


def test_priorities_may_be_negative(cairn: Cairn, job: int) -> None:
    assert f"Job {job} has priority -5 and is queued." in cairn("priority", job, -5).out
    assert cairn("priority", job, 7, "--json").json["priority"] == 7
    assert cairn("priority", job, 101).code == 1
    assert cairn("priority", job, 1, "--jsn").code == 2


def test_show_says_whether_a_job_is_exact(cairn: Cairn, job: int, worker: SimulatedWorker) -> None:
    assert "exactness" not in cairn("show", job).out
    worker.claim(job)
    shown = cairn("show", job).out
    assert "not proven" in shown
    assert "it is not recorded what execution 1 ran on" in shown


def test_a_clone_is_what_was_submitted_with_changes(cairn: Cairn, job: int, config: dict[str, Any]) -> None:
    new = cairn("clone", job, "--set", "training.numb_steps=50", "--seed", 5, "--name", "other", "--json").json
    assert new["id"] != job
    assert (new["name"], new["seed"], new["tags"], new["progress"]["total_steps"]) == ("other", 5, ["t"], 50)
    config["training"]["numb_steps"] = 50
    assert new["submitted"]["config"] == config
    wrong = cairn("clone", job, "--set", "training.numb_stepz=50")
    assert (wrong.code, "--set training.numb_stepz=50" in wrong.err) == (1, True)


def test_a_clone_of_a_replica_is_one_job_with_its_seed(cairn: Cairn, file: Path) -> None:
    first = cairn("submit", file, "--replicas", 2, "--json").json
    replica = cairn("show", first["id"] + 1, "--json").json
    new = cairn("clone", replica["id"], "--set", "training.numb_steps=60", "--json").json
    assert (new["seed"], new["group"]) == (replica["seed"], None)


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Let the editor be a program that replaces one text by another."""

    def edit(old: str, new: str) -> Path:
        script = tmp_path / "editor.py"
        script.write_text(
            "import sys, pathlib\n"
            f"path = pathlib.Path(sys.argv[1]); pathlib.Path({str(tmp_path / 'edited')!r}).write_text(sys.argv[1])\n"
            f"path.write_text(path.read_text().replace({old!r}, {new!r}))\n"
        )
        monkeypatch.delenv("VISUAL", raising=False)
        monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
        return tmp_path / "edited"

    return edit


def test_a_clone_is_edited_in_the_editor(cairn: Cairn, job: int, edit: Any) -> None:
    path = edit('"numb_steps": 1000', '"numb_steps": 70')
    assert cairn("clone", job, "-e", "--json").json["progress"]["total_steps"] == 70
    assert not Path(path.read_text()).exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"numb_steps": 1000', '"numb_stepz": 70', "numb_stepz"),
        ('"numb_steps": 1000', '"numb_steps":', "not valid JSON"),
    ],
)
def test_an_edit_that_is_refused_is_kept(cairn: Cairn, job: int, edit: Any, old: str, new: str, said: str) -> None:
    path = edit(old, new)
    refused = cairn("clone", job, "-e")
    kept = Path(path.read_text())
    assert refused.code == 1
    assert said in refused.err
    assert f"Your edit is kept in {kept}." in refused.err
    assert new in kept.read_text()
    kept.unlink()


def test_an_editor_that_fails_submits_nothing(cairn: Cairn, job: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    before = len(cairn("ls", "--limit", 100, "--json").json)
    monkeypatch.setenv("EDITOR", "false")
    assert "so nothing was submitted" in cairn("clone", job, "-e").err
    monkeypatch.setenv("EDITOR", "/nowhere/editor")
    assert cairn("clone", job, "-e").code == 2
    assert len(cairn("ls", "--limit", 100, "--json").json) == before


def test_an_extension_that_cannot_be_is_refused(cairn: Cairn, job: int) -> None:
    refused = cairn("extend", job, 2000)
    assert (refused.code, f"cairn pause {job}" in refused.err) == (1, True)
    cairn("cancel", job)
    assert "no-checkpoint" in cairn("extend", job, 2000).err


def test_an_extension_says_what_was_derived_anew(cairn: Cairn, job: int, worker: SimulatedWorker) -> None:
    attempt = worker.claim(job)
    attempt.checkpoint(1000)
    attempt.end("completed", 1000)
    first = cairn("extend", job, 2000)
    assert (first.code, "base-not-ready" in first.err) == (1, True)
    config = cairn("show", job, "--json").json["resolved"]
    branch = {"name": "", "type_map": ["Cu"], "model": config["model"], "parameters": 6}
    errand = next(one for one in (worker.try_errand(number) for number in range(1, 50)) if one.status_code == 200)
    found = SimulatedErrand(worker.client, errand.json()).found(
        branches=[branch], config=config, has_optimizer=True, step=1000, seed=7
    )
    assert found.status_code == 204, found.text
    done = cairn("extend", job, 2000)
    assert done.code == 0, done.err
    assert f"extension of water goes on from step 1000 of job {job} to 2000. It is queued." in done.out
    assert "schedule-changed" in done.err
    new = cairn("ls", "--limit", 1, "--json").json[0]["id"]
    origins = cairn("show", new, "--json").json["origins"]
    steps = origins["/training/numb_steps"]
    assert (steps["origin"], steps["note"]) == (
        "explicit",
        "the learning rate is re-derived for 2000 steps; base had 1000",
    )
    assert origins["/learning_rate/start_lr"]["origin"] == "base"
