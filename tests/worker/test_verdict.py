"""From what a trainer left behind to the end that is proposed."""

import signal
from pathlib import Path

import pytest

from app.wire.jobs import Cause
from app.wire.worker import HeartbeatAnswer
from worker import process, verdict
from worker.fate import Fate, Shutdown
from worker.rundir import Result, RunDir, Status, write_json

STOP = HeartbeatAnswer(action="stop", how="checkpoint", reason="cancelled by ada")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path)
    run.create()
    write_json(run.status, Status(phase="training", step=40))
    return run


@pytest.fixture
def fate() -> Fate:
    return Fate(Shutdown())


def test_a_result_is_believed(run: RunDir, fate: Fate) -> None:
    cause = Cause(failure="non-finite", message="nan", step=41)
    write_json(run.result, Result(outcome="failed", step=41, cause=cause))
    end = verdict.judge(run, 1, fate, 0)
    assert (end.outcome, end.step, end.cause) == ("failed", 41, cause)


@pytest.mark.parametrize("asked", [True, False])
def test_stopped_is_the_servers_wish_and_interrupted_the_workers(run: RunDir, fate: Fate, asked: bool) -> None:
    write_json(run.result, Result(outcome="stopped", step=41))
    fate.heard(STOP) if asked else fate.shutdown.request()
    assert verdict.judge(run, 0, fate, 0).outcome == ("stopped" if asked else "interrupted")


@pytest.mark.parametrize("exit_code", [-signal.SIGKILL, -signal.SIGTERM, -40, None])
def test_a_killed_trainer_can_go_on_elsewhere(run: RunDir, fate: Fate, exit_code: int | None) -> None:
    end = verdict.judge(run, exit_code, fate, 0)
    assert end.outcome == "interrupted"
    assert end.step == 40
    assert end.cause is not None
    assert end.cause.failure == "killed"
    assert "out-of-memory" in (end.cause.hint or "")


@pytest.mark.parametrize(("exit_code", "words"), [(-signal.SIGSEGV, "SIGSEGV"), (1, "exit code 1"), (0, "exit code 0")])
def test_a_crash_shows_the_end_of_the_log(run: RunDir, fate: Fate, exit_code: int, words: str) -> None:
    run.log.write_text("x" * 10_000 + "undefined symbol")
    end = verdict.judge(run, exit_code, fate, 0)
    assert end.outcome == "failed"
    assert end.cause is not None
    assert end.cause.failure == "library"
    assert words in end.cause.message
    assert (end.cause.detail or "").endswith("undefined symbol")
    assert len(end.cause.detail or "") <= 4000


def test_a_trainer_that_was_killed_after_its_grace_was_stopped(run: RunDir, fate: Fate) -> None:
    fate.heard(STOP)
    end = verdict.judge(run, -signal.SIGKILL, fate, 0)
    assert (end.outcome, end.cause) == ("stopped", None)


def test_a_full_disk_is_named(run: RunDir, fate: Fate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 0}))
    end = verdict.judge(run, 1, fate, 0)
    assert end.cause is not None
    assert end.cause.failure == "disk-full"


def test_a_disk_that_was_full_is_named_when_there_is_room_again(run: RunDir, fate: Fate) -> None:
    end = verdict.judge(run, process.NO_ROOM, fate, 0)
    assert end.cause is not None
    assert end.cause.failure == "disk-full"


def test_before_the_first_word_of_the_trainer_the_start_counts(tmp_path: Path, fate: Fate) -> None:
    run = RunDir(tmp_path)
    assert verdict.status(run, "starting", 30).model_dump() == {
        "phase": "starting", "step": 30, "total_steps": 0, "steps_per_s": None
    }  # fmt: skip
    write_json(run.status, Status(phase="model", step=0))
    assert verdict.status(run, "starting", 30).step == 30


def test_stop_now_outranks_a_checkpoint_and_is_not_taken_back(fate: Fate) -> None:
    now = HeartbeatAnswer(action="stop", how="now", reason="cancelled")
    orders = []
    for answer in (HeartbeatAnswer(action="continue"), STOP, now, STOP, HeartbeatAnswer(action="continue")):
        fate.heard(answer)
        orders.append(fate.order)
    assert orders == [None, "checkpoint", "now", "now", "now"]
