"""Ranks as processes: how the launcher ends them, with bodies that train nothing."""

import time

from worker import launcher
from worker.context import Stopped
from worker.launcher import launch
from worker.loop import StopSwitch
from worker.rundir import Result, RunDir


def _stopped_while_it_prepares(directory, stop, ranks):
    try:
        with ranks.main_first("data"):
            if ranks.is_main:
                raise Stopped
            return Result(outcome="completed", step=1)
    except Stopped:
        return Result(outcome="stopped", step=0)


def test_who_waits_for_what_the_main_rank_prepares_ends_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "find_devices", list)
    monkeypatch.setattr(launcher, "ECHO_S", 0.3)
    run = RunDir(tmp_path)
    run.create()
    began = time.monotonic()
    result = launch(run, 2, StopSwitch(run.stop), _stopped_while_it_prepares)
    assert (result.outcome, result.step) == ("stopped", 0)
    assert time.monotonic() - began < 120  # by itself a rank waits for days
