"""Submitting and checking what starts from a base, comparing, and searching: against a real server and a stub engine."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli import weights
from app.cli.api import Api
from app.engines import registry
from tests.app.cli.conftest import Cairn, Server
from tests.app.jobs.conftest import facts
from tests.app.jobs.stub import StubEngine, inventory
from tests.app.simulated import SimulatedErrand, SimulatedWorker, add_worker

STUB = ("--engine", "stub")
TUNE = (*STUB, "--base", "water")


@pytest.fixture(scope="module", autouse=True)
def stub(server: Server) -> Iterator[None]:
    """A server that knows the stub engine as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "ENGINES", (*registry.ENGINES, StubEngine()))
        yield


@pytest.fixture
def worker(server: Server) -> Iterator[SimulatedWorker]:
    with server.client("worker") as client:
        yield add_worker(client, "stubborn", engines={"stub": "1"})  # type: ignore[arg-type]


def do_errands(worker: SimulatedWorker, **found: Any) -> None:
    """Do every errand that waits."""
    for errand_id in range(1, 60):
        answer = worker.try_errand(errand_id)
        if answer.status_code == 200:
            errand = SimulatedErrand(worker.client, answer.json())
            order = errand.grant["order"]
            result = facts(**found) if errand.grant["kind"] == "inspect" else inventory(order["width"])
            assert errand.answer(result=result).status_code == 204


@pytest.fixture
def water(server: Server, worker: SimulatedWorker) -> None:
    """`water@1`, and the tensors of models of its width and of width 4 listed."""
    with server.client() as client:
        upload = {"name": "water", "filename": "water.pt", "engine": "stub"}
        headers = {"Content-Type": "application/octet-stream"}
        answer = client.post("/api/v1/models", params=upload, content=b"weights", headers=headers)
        assert answer.status_code in (200, 201), answer.text
        do_errands(worker)
        for config in ({}, {"width": 4}):
            start = {"mode": "finetune", "base": "water", "allow": ["width"]}
            client.post("/api/v1/configs/resolve", json={"engine": "stub", "config": config, "start": start})
        do_errands(worker)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(**config: Any) -> Path:
        path = tmp_path / "input.json"
        path.write_text(json.dumps(config, indent=2))
        return path

    return write


def test_submit_sends_what_the_options_say_about_the_start(cairn: Cairn, water: None, written: Any) -> None:
    options = ("--mode", "init", "--on-mismatch", "error", "--allow", "width", "--allow", "depth", "--fitting", "new")
    job = cairn("submit", written(cutoff=9.0), *TUNE, *options, "--json").json
    assert job["submitted"]["start"] == {
        "base": "water",
        "mode": "init",
        "fitting": "new",
        "on_mismatch": "error",
        "allow": ["width", "depth"],
    }
    assert job["base"] == "water@1"


def test_a_base_without_a_mode_is_finetuned(cairn: Cairn, water: None, written: Any) -> None:
    done = cairn("submit", written(), *TUNE)
    assert done.code == 0
    assert "finetune from water@1, 8 of 8 parameters kept (100 %)" in done.out
    assert "is queued" in done.out


def test_with_a_base_no_file_is_needed(cairn: Cairn, water: None) -> None:
    job = cairn("submit", *TUNE, "--set", "steps=7", "--json").json
    assert (job["submitted"]["config"], job["progress"]["total_steps"]) == ({"steps": 7}, 7)


def test_a_jobs_checkpoint_is_resumed_without_a_file(cairn: Cairn, worker: SimulatedWorker, written: Any) -> None:
    first = cairn("submit", written(steps=100), *STUB, "--seed", 77, "--json").json["id"]
    attempt = worker.claim(first)
    assert attempt.checkpoint(40).status_code == 200
    attempt.end("interrupted", 40)
    resume = ("submit", *STUB, "--mode", "resume", "--base", f"job:{first}", "--set", "steps=10000")
    early = cairn(*resume)
    assert early.code == 1
    assert f"at --base job:{first}" in early.err
    do_errands(worker, step=40, config={"steps": 100, "width": 8}, seed=77, has_optimizer=True)
    job = cairn(*resume, "--json").json
    assert (job["state"], job["submitted"]["config"]) == ("queued", {"steps": 10000})
    assert (job["progress"]["step"], job["progress"]["total_steps"], job["seed"]) == (40, 10000, 77)
    assert f"resume from job-{first}@1" in cairn("show", job["id"]).out


def test_without_file_and_base_there_is_nothing_to_submit(cairn: Cairn) -> None:
    for command in ("submit", "check"):
        done = cairn(command, *STUB)
        assert done.code == 2
        assert "--base" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--branch", "a", "--branch", "b"), "TASK=VALUE"),
        (("--branch", "a=b", "--branch", "=b"), "TASK=VALUE"),
        (("--fitting", "old"), "expected reuse or new"),
        (("--fitting", "a=new", "--fitting", "b=old"), "expected reuse or new"),
    ],
)
def test_options_that_cannot_be_meant_are_wrong_usage(cairn: Cairn, options: tuple[str, ...], words: str) -> None:
    done = cairn("check", *TUNE, *options)
    assert done.code == 2
    assert words in done.err


def test_branches_and_fittings_may_be_given_by_task(cairn: Cairn, water: None) -> None:
    done = cairn("submit", *TUNE, "--branch", "a=H2O", "--branch", "b=x", "--fitting", "a=new", "--json")
    assert done.code == 1
    assert json.loads(done.err)["pointer"] == "/start/branch"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (("--base", "watr"), "--base watr"),
        (("--base", "water", "--branch", "H2O"), "--branch H2O"),
        (("--base", "water", "--mode", "resume", "--allow", "width"), "--allow width"),
        (("--base", "water@1", "--seed", "5", "--mode", "resume"), "--seed 5"),
    ],
)
def test_a_problem_with_the_start_names_the_option(
    cairn: Cairn, water: None, written: Any, options: tuple[str, ...], shown: str
) -> None:
    done = cairn("submit", written(), *STUB, *options)
    assert done.code == 1
    assert f"at {shown}" in done.err


def test_a_mode_without_a_base_names_the_option(cairn: Cairn, written: Any) -> None:
    done = cairn("submit", written(), *STUB, "--mode", "init")
    assert done.code == 1
    assert "at --mode init" in done.err


def test_problems_with_base_and_config_come_together(cairn: Cairn, water: None, written: Any) -> None:
    done = cairn("check", written(widht=4), *STUB, "--base", "watr")
    assert done.code == 1
    assert "at --base watr" in done.err
    assert '2 |   "widht": 4' in done.err
    assert "2 problems" in done.err


def test_check_shows_origins_plan_changes_and_hints(cairn: Cairn, water: None, written: Any) -> None:
    done = cairn("check", written(cutoff=9.0), *TUNE)
    assert done.code == 0, done.err
    assert "This would run" in done.out
    lines = {line.split()[0]: line.split() for line in done.out.splitlines() if line.strip()}
    assert lines["/width"][1:6] == ["8", "base", "default", "4"]
    assert lines["/cutoff"][1:7] == ["9.0", "explicit", "base", "6.0,", "default", "6.0"]
    assert "8 of 8 parameters kept (100 %)" in done.out
    assert lines["descriptor"][1:] == ["8", "8", "100", "%", "1", "copied"]
    assert "same shape, different function  sees further" in done.out
    assert "100 steps on 0 frames, 8 parameters, checkpoints of about 200 B" in done.out
    assert "inherited from" not in done.out


def test_check_lists_every_group_of_tensors_that_is_not_copied(cairn: Cairn, water: None, written: Any) -> None:
    done = cairn("check", written(width=4), *TUNE, "--allow", "width")
    assert done.code == 0, done.err
    assert "0 of 4 parameters kept (0 %)" in done.out
    assert "reinitialised  descriptor: another width (/width)  w [4]" in done.out


def test_check_says_in_words_where_values_came_from(cairn: Cairn, water: None, written: Any) -> None:
    assert "width = 8: inherited from water@1" in cairn("check", written(), *TUNE, "--explain").out


def test_check_as_json_is_the_servers_own(cairn: Cairn, water: None, written: Any) -> None:
    found = cairn("check", written(), *TUNE, "--json").json
    assert (found["base"], found["plan"]["kept"], found["plan_pending"]) == ("water@1", 8, None)


def test_a_plan_that_is_refused_is_shown_at_its_line(cairn: Cairn, water: None, written: Any) -> None:
    done = cairn("check", written(width=4), *TUNE)
    assert done.code == 1
    assert '2 |   "width": 4' in done.err
    assert "start.allow" in done.err


def test_check_waits_for_the_plan(
    cairn: Cairn, water: None, worker: SimulatedWorker, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attended(api: Api, engine: str) -> bool:
        do_errands(worker)
        return weights.attended(api, engine)

    monkeypatch.setattr("app.cli.submission.attended", attended)
    done = cairn("check", written(width=31), *TUNE, "--allow", "width")
    assert done.code == 0, done.err
    assert "Waiting for a worker" in done.err
    assert "31 parameters" in done.out


def test_check_does_not_wait_without_a_worker(cairn: Cairn, water: None, server: Server, written: Any) -> None:
    with server.client("worker") as client:
        add_worker(client, "stubborn", engines={"other": "1"})  # type: ignore[arg-type]
    done = cairn("check", written(width=32), *TUNE, "--allow", "width")
    assert done.code == 1
    assert "no worker of stub is alive" in done.err
    assert "/width" in done.out, "what is known is shown"
    assert "This would run" not in done.out
    submitted = cairn("submit", written(width=32), *TUNE, "--allow", "width")
    assert "is checking" in submitted.out


def test_show_says_what_a_job_starts_from(cairn: Cairn, water: None, written: Any) -> None:
    job = cairn("submit", written(), *TUNE, "--json").json
    assert "finetune from water@1, 8 of 8 parameters kept" in cairn("show", job["id"]).out


def test_provenance_in_words_and_as_json(cairn: Cairn, water: None, written: Any) -> None:
    job = cairn("submit", written(cutoff=9.0), *TUNE, "--seed", 3, "--json").json
    done = cairn("provenance", job["id"])
    for words in ("finetune from water@1", "width = 8: inherited from water@1", "8 of 8 parameters kept", "3"):
        assert words in done.out
    assert cairn("provenance", job["id"], "--json").json["plan"] == job["plan"]


def test_diff_shows_values_and_origins(cairn: Cairn, written: Any) -> None:
    left = cairn("submit", written(cutoff=7.0, depth=1), *STUB, "--seed", 1, "--json").json["id"]
    right = cairn("submit", written(width=5), *STUB, "--seed", 1, "--json").json["id"]
    done = cairn("diff", left, right)
    rows = {line.split()[0]: line.split()[1:] for line in done.out.splitlines() if line.startswith("/")}
    assert rows == {
        "/cutoff": ["7.0", "explicit", "6.0", "default"],
        "/width": ["4", "default", "5", "explicit"],
        "/depth": ["1", "explicit", "1", "default"],
    }
    assert "2 different values" in done.out
    assert cairn("diff", left, right, "--json").json["same_training"] is False
    same = cairn("submit", written(width=5), *STUB, "--seed", 1, "--on-existing", "new", "--json").json["id"]
    assert "train the same thing" in cairn("diff", right, same).out
    other = cairn("submit", written(width=5), *STUB, "--seed", 2, "--json").json["id"]
    assert "equal values" in cairn("diff", right, other).out


def test_ls_searches_configs(cairn: Cairn, written: Any) -> None:
    job = cairn("submit", written(cutoff=7.25), *STUB, "--json").json["id"]
    found = cairn("ls", "--where", "explicit:cutoff > 7.2", "--where", "cutoff < 7.3", "--json").json
    assert [one["id"] for one in found] == [job]
    done = cairn("ls", "--where", "cutoff >> 7")
    assert done.code == 1
    assert "'cutoff >> 7'" in done.err
    assert "descriptor.rcut > 6" in done.err
    assert "No jobs match" in cairn("ls", "--where", "cutoff = 99").out
