"""What is decided about a submission whose training is here already: every case of the table, and its words."""

import pytest

from app.jobs.weight_check import Twin, decide, refusal
from app.wire.resolution import TwinFile

IDENTITY = "1d" * 32
POLICIES = (None, "resume", "reuse", "new", "fail")


def file(job: int, step: int, problem: str | None = None) -> TwinFile:
    return TwinFile(job=job, step=step, intact=problem is None, problem=problem)


COMPLETED = Twin(9, "completed", 100, 100, 2, files=(file(9, 100),))
DAMAGED = Twin(8, "completed", 100, 100, 2, files=(file(8, 100, "sha256 differs"), file(8, 80)))
RUNNING = Twin(7, "running", 30, 100, 1)
PAUSED = Twin(6, "paused", 30, 100, 1)
FAILED = Twin(5, "failed", 45, 100, 2, files=(file(5, 40),))
CORRUPT = Twin(4, "failed", 45, 100, 2, files=(file(4, 40, "sha256 differs"), file(4, 20)))
LOST = Twin(3, "cancelled", 45, 100, 2, files=(file(3, 40, "missing"), file(3, 20, "sha256 differs")))
EMPTY = Twin(2, "failed", 3, 100)

TABLE = [
    # twins, then what follows by default, with resume, reuse, new, fail
    ([], "scratch", "scratch", "scratch", "scratch", "scratch"),
    ([COMPLETED], "refused 9", "reuse 9", "reuse 9", "scratch", "refused 9"),
    ([RUNNING], "refused 7", "reuse 7", "reuse 7", "scratch", "refused 7"),
    ([PAUSED], "refused 6", "refused 6", "refused 6", "scratch", "refused 6"),
    ([FAILED], "resume 5@40", "resume 5@40", "scratch", "scratch", "refused 5"),
    ([CORRUPT], "resume 4@20", "resume 4@20", "scratch", "scratch", "refused 4"),
    ([DAMAGED], "resume 8@80", "resume 8@80", "scratch", "scratch", "refused 8"),
    ([LOST], "scratch", "scratch", "scratch", "scratch", "refused 3"),
    ([EMPTY], "scratch", "scratch", "scratch", "scratch", "refused 2"),
    ([COMPLETED, RUNNING, FAILED], "refused 9", "reuse 9", "reuse 9", "scratch", "refused 9"),
    ([RUNNING, COMPLETED], "refused 9", "reuse 9", "reuse 9", "scratch", "refused 9"),
    ([PAUSED, RUNNING, EMPTY], "refused 7", "reuse 7", "reuse 7", "scratch", "refused 7"),
    ([FAILED, PAUSED], "refused 6", "refused 6", "refused 6", "scratch", "refused 6"),
    ([LOST, CORRUPT, FAILED], "resume 5@40", "resume 5@40", "scratch", "scratch", "refused 3"),
    ([DAMAGED, FAILED], "resume 8@80", "resume 8@80", "scratch", "scratch", "refused 8"),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: " ".join(f"{twin.job}-{twin.state}" for twin in row[0]) or "-")
def test_the_table(row) -> None:
    twins, *expected = row
    for policy, what in zip(POLICIES, expected, strict=True):
        check = decide(IDENTITY, policy, twins)
        step = f"@{check.step}" if check.step else ""
        assert f"{check.decision} {check.twin}{step}" == (what if " " in what else f"{what} None"), policy
        assert check.identity == IDENTITY
        assert check.policy == policy
        assert list(check.twins) == [twin.job for twin in twins]


@pytest.mark.parametrize(
    ("policy", "twins", "words"),
    [
        (None, [], "No other job trains the same."),
        (
            None,
            [Twin(17, "failed", 4200, 9000, 2, files=(file(17, 4000, "sha256 differs"), file(17, 3000)))],
            (
                "Found 2 checkpoints of an interrupted twin (job 17, failed at step 4200 of 9000); "
                "step-4000 is corrupt (sha256 differs), continuing from step-3000."
            ),
        ),
        (
            None,
            [FAILED],
            (
                "Found 2 checkpoints of an interrupted twin (job 5, failed at step 45 of 100); step-40 is intact, "
                "continuing from it."
            ),
        ),
        (
            None,
            [LOST],
            (
                "Found 2 checkpoints of an interrupted twin (job 3, cancelled at step 45 of 100); step-40 is missing; "
                "step-20 is corrupt (sha256 differs): from the start."
            ),
        ),
        (
            None,
            [LOST, FAILED],
            (
                "Found 2 checkpoints of an interrupted twin (job 5, failed at step 45 of 100); step-40 of job 3 is missing; "
                "step-20 of job 3 is corrupt (sha256 differs), continuing from step-40."
            ),
        ),
        (
            None,
            [DAMAGED],
            (
                "Found 2 checkpoints of a completed twin (job 8, completed after step 100 of 100); step-100 is corrupt "
                "(sha256 differs), continuing from step-80."
            ),
        ),
        (
            None,
            [EMPTY],
            "Found no checkpoint of an interrupted twin (job 2, failed at step 3 of 100): from the start.",
        ),
        ("reuse", [RUNNING], "Job 7, running at step 30 of 100, is the same training, and goes on: it is the answer."),
        (
            "reuse",
            [FAILED],
            "Job 5, failed at step 45 of 100, is the same training, so there is nothing to reuse: from the start.",
        ),
        (
            "new",
            [COMPLETED, FAILED, EMPTY],
            (
                "Job 9, completed after step 100 of 100, is the same training (and so are jobs 5, 2). "
                "From the start all the same, as asked."
            ),
        ),
    ],
)
def test_the_words(policy, twins, words) -> None:
    assert decide(IDENTITY, policy, twins).summary == words


def test_a_refusal_names_the_twin_and_the_choices() -> None:
    problem = refusal(decide(IDENTITY, None, [COMPLETED])).problem
    assert problem.code == "twin-exists"
    assert problem.pointer == "/on_existing"
    assert problem.message == "Job 9, completed after step 100 of 100, is the same training."
    assert problem.hint is not None
    assert all(choice in problem.hint for choice in ("resume", "reuse", "new", "fail", "--on-existing"))
    paused = refusal(decide(IDENTITY, "resume", [PAUSED])).problem
    assert paused.hint is not None
    assert paused.hint.startswith("`cairn resume 6` lets it go on.")
