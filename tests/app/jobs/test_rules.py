"""What becomes of a job when an execution ends: the rules as a table, and what holds whatever happens."""

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.rules import Ending, Outcome, StopFor, decide
from app.wire.jobs import Cause
from app.wire.states import FINAL_STATES

KILLED = Cause(failure="killed", message="The trainer was killed.")
NON_FINITE = Cause(failure="non-finite", message="The loss is NaN.")

ENDING = Ending(
    outcome="interrupted",
    step=250,
    total_steps=1000,
    saved=200,
    stopping_for=None,
    cause=None,
    fruitless=1,
    max_attempts=3,
    unit="step",
)


@pytest.mark.parametrize(
    ("changes", "attempt", "job"),
    [
        ({"outcome": "completed", "step": 1000}, "completed", "completed"),
        ({"outcome": "completed"}, "failed", "failed"),
        ({"outcome": "completed", "step": 1000, "counted": 1000}, "completed", "completed"),
        ({"outcome": "completed", "step": 1100, "counted": 1100}, "failed", "failed"),
        ({"outcome": "completed", "step": 1000, "total_steps": 0}, "failed", "failed"),
        ({"outcome": "stopped", "stopping_for": "pause", "total_steps": 0}, "interrupted", "paused"),
        ({"outcome": "failed", "cause": NON_FINITE}, "failed", "failed"),
        ({"outcome": "failed"}, "failed", "failed"),
        ({"outcome": "failed", "cause": KILLED}, "failed", "queued"),
        ({}, "interrupted", "queued"),
        ({"cause": KILLED}, "interrupted", "queued"),
        ({"cause": KILLED, "fruitless": 3}, "interrupted", "failed"),
        ({"fruitless": 3}, "interrupted", "queued"),
        ({"outcome": "lost"}, "lost", "queued"),
        ({"outcome": "lost", "fruitless": 3}, "lost", "failed"),
        ({"outcome": "stopped"}, "interrupted", "queued"),
        # cancelled
        ({"outcome": "stopped", "stopping_for": "cancel"}, "cancelled", "cancelled"),
        ({"outcome": "lost", "stopping_for": "cancel"}, "lost", "cancelled"),
        ({"outcome": "failed", "cause": NON_FINITE, "stopping_for": "cancel"}, "cancelled", "cancelled"),
        ({"outcome": "completed", "step": 1000, "stopping_for": "cancel"}, "completed", "completed"),
        # paused
        ({"outcome": "stopped", "stopping_for": "pause"}, "interrupted", "paused"),
        ({"outcome": "interrupted", "stopping_for": "pause"}, "interrupted", "paused"),
        ({"outcome": "interrupted", "cause": KILLED, "stopping_for": "pause"}, "interrupted", "paused"),
        ({"outcome": "lost", "stopping_for": "pause"}, "lost", "paused"),
        ({"outcome": "lost", "stopping_for": "pause", "fruitless": 3}, "lost", "paused"),
        ({"outcome": "failed", "cause": KILLED, "stopping_for": "pause"}, "failed", "paused"),
        ({"outcome": "failed", "cause": NON_FINITE, "stopping_for": "pause"}, "failed", "failed"),
        ({"outcome": "completed", "step": 1000, "stopping_for": "pause"}, "completed", "completed"),
    ],
)
def test_the_rules(changes, attempt: str, job: str) -> None:
    verdict = decide(replace(ENDING, **changes))
    assert (verdict.attempt, verdict.job) == (attempt, job)
    assert bool(verdict.pause_s) == (job == "queued" and verdict.cause is not None and attempt != "lost")


def test_a_pause_says_what_was_not_saved() -> None:
    pausing = replace(ENDING, outcome="stopped", stopping_for="pause")
    assert decide(replace(pausing, saved=250)).message == "paused at step 250"
    assert decide(pausing).message == "paused at step 250; it will go on from step 200, the last that was saved"


@given(
    st.builds(
        Ending,
        outcome=st.sampled_from(get_args(Outcome)),
        step=st.integers(0, 1000),
        total_steps=st.just(1000),
        saved=st.integers(0, 1000),
        stopping_for=st.sampled_from([None, *get_args(StopFor)]),
        cause=st.sampled_from([None, KILLED, NON_FINITE]),
        fruitless=st.integers(1, 5),
        max_attempts=st.just(3),
        unit=st.just("step"),
    )
)
def test_what_holds_whatever_happens(ending: Ending) -> None:
    verdict = decide(ending)
    assert verdict.message
    assert (verdict.job == "failed") <= (verdict.cause is not None)
    assert (verdict.job == "paused") <= (ending.stopping_for == "pause")
    assert (ending.stopping_for == "cancel") <= (verdict.job in FINAL_STATES)
    assert (ending.stopping_for is not None) <= (verdict.job != "queued"), "nobody's wish to stop is forgotten"
    assert bool(verdict.pause_s) <= (verdict.job == "queued")
