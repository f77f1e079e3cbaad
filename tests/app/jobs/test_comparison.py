"""Comparing jobs: the pure comparison against a naive loop, and jobs of a simulated worker through the API."""

import copy
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db import reading
from app.jobs import comparison, metric_blocks, service
from app.jobs.comparison import compare_metrics, differing, shown
from app.jobs.comparison_reading import Run
from app.jobs.series import Series

NAN = math.nan
OTHER_NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000001))[0]


# --- pure -------------------------------------------------------------------------------------------------------------


def bits(value: float) -> int:
    return struct.unpack("<q", struct.pack("<d", value))[0]


def stream(values: dict[int, float], rows: int):
    """Yield values by step in series of so many rows."""
    items = sorted(values.items())
    for start in range(0, len(items), rows):
        part = items[start : start + rows]
        yield Series(np.array([step for step, _ in part], np.int64), np.array([value for _, value in part]))


def naive(left: dict[str, dict[int, float]], right: dict[str, dict[int, float]]):
    """Return equal steps and the differences, by looking at every step of every key."""
    differences, common = [], {}
    for key in left:
        common[key] = sorted(left[key].keys() & right[key].keys())
        for step in common[key]:
            if bits(left[key][step]) != bits(right[key][step]):
                differences.append((step, key, bits(left[key][step]), bits(right[key][step])))
                break
    differences.sort()
    first = differences[0][0] if differences else math.inf
    return max((sum(step < first for step in steps) for steps in common.values()), default=0), differences


VALUES = st.sampled_from([0.0, -0.0, 1.0, math.nextafter(1.0, 2.0), NAN, OTHER_NAN, math.inf])
HISTORY = st.dictionaries(st.integers(0, 30), VALUES, max_size=20)
RUN = st.fixed_dictionaries({"a": HISTORY, "b": HISTORY})


@st.composite
def runs(draw):
    """Two runs, mostly alike: what one has at a step is what the other has, unless something was planted."""
    left = draw(RUN)
    right = copy.deepcopy(left)
    for key in right:
        for step in draw(st.lists(st.integers(0, 30), max_size=6)):
            right[key].pop(step, None)
        right[key].update(draw(st.dictionaries(st.integers(0, 30), VALUES, max_size=2)))
    return left, right


@given(runs(), st.integers(1, 9), st.integers(1, 9))
def test_the_comparison_finds_what_a_loop_over_every_step_finds(runs, left_rows, right_rows):
    left, right = runs
    found = compare_metrics(left, lambda key: stream(left[key], left_rows), lambda key: stream(right[key], right_rows))
    steps, differences = naive(left, right)
    assert found.steps == steps
    expected = [(step, key, shown(ours), shown(theirs)) for step, key, ours, theirs in differences]
    assert [(one.step, one.key, one.left, one.right) for one in found.differences] == expected


@given(HISTORY, HISTORY, st.integers(1, 9), st.integers(1, 9))
def test_steps_that_only_one_has_are_counted_within_what_both_have(left, right, left_rows, right_rows):
    right = {step: left.get(step, value) for step, value in right.items()}
    found = comparison.compare_key(stream(left, left_rows), stream(right, right_rows))
    if not left or not right:
        assert (found.left, found.right, found.uneven_end) == (0, 0, False)
        return
    within = range(max(min(left), min(right)), min(max(left), max(right)) + 1)
    assert found.left == sum(step in within and step not in right for step in left)
    assert found.right == sum(step in within and step not in left for step in right)
    assert found.uneven_end == (max(left) != max(right))


@pytest.mark.parametrize(
    ("value", "hex_", "decimal"),
    [
        (0.1, "0x1.999999999999ap-4", "0.10000000000000001"),
        (-0.0, "-0x0.0p+0", "-0"),
        (math.inf, "inf", "inf"),
        (NAN, "nan:0x7ff8000000000000", "nan"),
        (OTHER_NAN, "nan:0xfff8000000000001", "nan"),
    ],
)
def test_values_are_shown_in_full(value, hex_, decimal):
    assert (shown(bits(value)).hex, shown(bits(value)).decimal) == (hex_, decimal)


def test_documents_differ_by_pointer():
    left = {"a/b": 1, "same": [1, 2], "gpus": [{"name": "A"}, {"name": "B"}], "n": 1, "null": None}
    right = {"a/b": 2, "same": [1, 2], "gpus": [{"name": "A"}], "n": 1.0, "new": {"x": True}}
    found = [(one.pointer, one.left, one.right, one.only) for one in differing(left, right)]
    assert found == [
        ("/a~1b", 1, 2, None),
        ("/gpus/1/name", "B", None, "left"),
        ("/n", 1, 1.0, None),
        ("/new/x", None, True, "right"),
        ("/null", None, None, "left"),
    ]
    assert differing(left, left) == []


# --- jobs -------------------------------------------------------------------------------------------------------------

LOSS, FORCE = "train/loss", "train/rmse_f"


@pytest.fixture
def small_blocks(monkeypatch):
    """Merge often, into small blocks."""
    monkeypatch.setattr(metric_blocks, "BLOCK_ROWS", 100)
    monkeypatch.setattr("app.jobs.metrics.MERGE_ROWS", 30)


@pytest.fixture
def attempts(submit, worker):
    """Two jobs of one spec, each in its first attempt."""
    return [worker.claim(submit(seed=7, on_existing="new")["id"]) for _ in range(2)]


def compare(client, left, right, **headers):
    paths = [getattr(one, "claim", {}).get("job_id", one) for one in (left, right)]
    answer = client.get(f"/api/v1/jobs/{paths[0]}/compare/{paths[1]}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def history(count: int = 1000, **planted: float) -> dict[str, list[float | None]]:
    """Return metrics of steps 1 to `count`; `planted` are changes of the loss by step."""
    loss = [1.0 / step for step in range(1, count + 1)]
    for step, value in planted.items():
        loss[int(step.removeprefix("at"))] = value
    return {
        LOSS: loss,
        FORCE: [2 * value for value in loss],
        "perf/step_s": np.random.default_rng().random(count).tolist(),
    }


def train(attempt, columns, first: int = 1, rows: int = 37) -> None:
    """Send metrics from step `first` on, in batches."""
    count = len(next(iter(columns.values())))
    for start in range(0, count, rows):
        part = {key: values[start : start + rows] for key, values in columns.items()}
        steps = list(range(first + start, first + min(start + rows, count)))
        answer = attempt.metrics(first + start, steps, **part)
        assert answer.status_code == 204, answer.text


def complete(*attempts) -> None:
    for attempt in attempts:
        assert attempt.end("completed", 1000).json() == {"job_state": "completed"}


def test_equal_runs_are_identical_once_both_have_ended(client, attempts, small_blocks):
    left, right = attempts
    train(left, history(), rows=37)
    train(right, history(600), rows=100)
    left.checkpoint(200, fingerprint="a" * 64)
    left.checkpoint(400, fingerprint="b" * 64)
    right.checkpoint(200, fingerprint="a" * 64)
    for attempt in attempts:
        attempt.events({"seq": 0, "kind": "fingerprint", "message": "w", "data": {"step": 0, "sha256": "0" * 64}})
        attempt.events({"seq": 1, "kind": "statistics", "message": "s", "data": {"sha256": "1" * 64}})
    complete(left)
    found = compare(client, left, right)
    assert (found["verdict"], found["steps"], found["last_step"]) == ("identical-so-far", 600, 600)
    assert found["summary"] == "identical so far (600 steps)"
    assert found["metrics"] == [LOSS, FORCE]
    assert [pair["stage"] for pair in found["beginning"]] == ["init", "statistics"]
    rest = {key: values[600:] for key, values in history().items()}
    train(right, rest, first=601)
    right.checkpoint(400, fingerprint="b" * 64)
    complete(right)
    found = compare(client, left, right)
    assert (found["verdict"], found["summary"]) == ("identical", "identical: 1,000 steps, 2 checkpoints")
    for nothing in ("divergence", "fingerprint", "generators"):
        assert found[nothing] is None
    for nothing in ("only_left", "only_right", "uneven", "config", "spec", "first_differences"):
        assert found[nothing] == [], nothing


@pytest.mark.parametrize("step", [1, 100, 101, 640, 1000])
def test_one_ulp_is_found_at_its_step_with_both_values(client, attempts, small_blocks, step):
    left, right = attempts
    train(left, history())
    changed = history()
    changed[FORCE][step - 1] = math.nextafter(changed[FORCE][step - 1], math.inf)
    train(right, changed, rows=90)
    complete(left, right)
    found = compare(client, left, right)
    value = 2.0 / step
    assert found["verdict"] == "diverged"
    assert found["steps"] == step - 1
    assert found["divergence"] == {
        "key": FORCE,
        "step": step,
        "keys": 1,
        "left": {"hex": value.hex(), "decimal": f"{value:.17g}"},
        "right": {"hex": math.nextafter(value, math.inf).hex(), "decimal": f"{math.nextafter(value, math.inf):.17g}"},
    }
    assert f"diverged at step {step:,}: train/rmse_f is" in found["summary"]


def test_every_metric_tells_its_first_difference(client, attempts):
    left, right = attempts
    ours = {LOSS: [1.0, 2.0, 3.0, 4.0], FORCE: [1.0, 2.0, 3.0, 4.0], "lr": [0.1] * 4}
    theirs = {LOSS: [1.0, 2.0, 3.5, 4.0], FORCE: [1.0, 2.0, 3.5, 4.5], "lr": [0.1, 0.1, 0.1, 0.2]}
    train(left, ours)
    train(right, theirs)
    found = compare(client, left, right)
    assert [(one["key"], one["step"]) for one in found["first_differences"]] == [(LOSS, 3), (FORCE, 3), ("lr", 4)]
    assert (found["divergence"]["key"], found["divergence"]["keys"]) == (LOSS, 2)
    assert "1 more metric there" in found["summary"]


def test_nan_equals_nan_of_the_same_bits_only(client, attempts):
    left, right = attempts
    train(left, {LOSS: [1.0, NAN, NAN], FORCE: [0.0, 1.0, -math.inf]})
    train(right, {LOSS: [1.0, NAN, OTHER_NAN], FORCE: [-0.0, 1.0, -math.inf]})
    found = compare(client, left, right)["first_differences"]
    assert [(one["key"], one["step"], one["left"]["hex"], one["right"]["hex"]) for one in found] == [
        (FORCE, 1, "0x0.0p+0", "-0x0.0p+0"),
        (LOSS, 3, "nan:0x7ff8000000000000", "nan:0xfff8000000000001"),
    ]


def test_what_only_one_measured_is_listed_and_no_divergence(client, attempts):
    left, right = attempts
    train(left, {LOSS: [1.0, 2.0, 3.0, 4.0], "val/rmse_f": [None, 1.0, None, 2.0], "val/loss": [None, 1.0, None, 2.0]})
    train(right, {LOSS: [1.0, 2.0, 3.0, 4.0], "val/loss": [0.5, 1.0, 1.5, 2.0], "grad": [1.0] * 4})
    found = compare(client, left, right)
    assert (found["verdict"], found["steps"]) == ("identical-so-far", 4)
    assert (found["only_left"], found["only_right"]) == (["val/rmse_f"], ["grad"])
    assert found["uneven"] == [{"key": "val/loss", "left": 0, "right": 1}], "from its first step in both on"


def test_a_resumed_run_equals_an_undisturbed_one(client, attempts, worker, small_blocks):
    left, right = attempts
    train(left, history())
    train(right, history(537, at520=99.0))
    right.checkpoint(500, fingerprint="c" * 64)
    right.checkpoint(520, fingerprint="d" * 64)
    left.checkpoint(500, fingerprint="c" * 64)
    right.events({"seq": 0, "kind": "fingerprint", "message": "w", "data": {"sha256": "0" * 64}})
    left.events({"seq": 0, "kind": "fingerprint", "message": "w", "data": {"sha256": "0" * 64}})
    assert compare(client, left, right)["divergence"]["step"] == 521
    # The bytes of the newest checkpoint are gone: the next attempt goes on from the one before.
    job_id = right.claim["job_id"]
    newest = client.get(f"/api/v1/jobs/{job_id}/checkpoints").json()[0]
    client.app.state.blobs.remove(newest["files"][0]["sha256"])
    right.end("interrupted", 537)
    again = worker.claim(job_id, 2)
    assert again.claim["resume_from"]["step"] == 500
    again.events({"seq": 0, "kind": "fingerprint", "message": "w", "data": {"sha256": "9" * 64}})
    train(again, {key: values[500:] for key, values in history().items()}, first=501, rows=64)
    again.checkpoint(600, fingerprint="e" * 64)
    left.checkpoint(600, fingerprint="e" * 64)
    left.checkpoint(520, fingerprint="0" * 64)
    complete(left, again)
    assert compare(client, left, right)["summary"] == "identical: 1,000 steps, 2 checkpoints"


def test_runs_that_begin_at_different_steps_are_compared_where_both_are(client, attempts, small_blocks):
    left, right = attempts
    train(left, history())
    train(right, {key: values[700:] for key, values in history().items()}, first=701)
    complete(left, right)
    found = compare(client, left, right)
    assert (found["verdict"], found["steps"], found["last_step"], found["uneven"]) == ("identical", 300, 1000, [])


def test_runs_that_ended_at_different_steps_are_not_called_identical(client, attempts):
    left, right = attempts
    train(left, history())
    train(right, history(300))
    complete(left)
    right.end("failed", 300, "non-finite")
    found = compare(client, left, right)
    assert found["verdict"] == "identical-so-far"
    jobs = [attempt.claim["job_id"] for attempt in attempts]
    assert found["summary"] == (
        f"identical in the 300 steps that both have; job {jobs[0]} completed at step 1,000 of 1,000, "
        f"job {jobs[1]} failed at step 300 of 1,000"
    )


def test_a_run_whose_last_metrics_are_missing_is_not_called_identical(client, attempts):
    left, right = attempts
    train(left, history())
    train(right, history(999))
    complete(left, right)
    assert compare(client, left, right)["verdict"] == "identical-so-far"


def test_weights_may_differ_though_metrics_do_not(client, attempts):
    for attempt, digest in zip(attempts, "ab", strict=True):
        train(attempt, history(10))
        attempt.checkpoint(5, fingerprint="0" * 64)
        attempt.checkpoint(10, fingerprint=digest * 64)
    found = compare(client, *attempts)
    assert found["verdict"] == "diverged"
    assert found["divergence"] is None
    assert found["fingerprint"] == {
        "stage": "checkpoint", "step": 10, "generator": None, "left": "a" * 64, "right": "b" * 64,
    }  # fmt: skip
    assert found["summary"] == (
        "diverged: the weights of the checkpoint of step 10 differ (aaaaaaaaaaaa and bbbbbbbbbbbb); "
        "every metric of 10 steps is equal"
    )


@pytest.mark.parametrize(
    ("kind", "data", "stage"),
    [
        ("fingerprint", {}, "init"),
        ("fingerprint", {"stage": "transfer"}, "transfer"),
        ("statistics", {}, "statistics"),
    ],
)
def test_the_first_fingerprint_that_differs_is_named(client, attempts, kind, data, stage):
    for attempt, digest in zip(attempts, "ab", strict=True):
        attempt.events({"seq": 0, "kind": kind, "message": "…", "data": data | {"sha256": digest * 64}})
        attempt.checkpoint(5, fingerprint=digest * 64)
    found = compare(client, *attempts)
    assert (found["verdict"], found["fingerprint"]["stage"]) == ("diverged", stage)


def test_the_first_generator_whose_state_differs_is_named(client, attempts):
    for attempt, digest in zip(attempts, "ab", strict=True):
        train(attempt, history(10))
        attempt.checkpoint(5, python="0" * 64, torch="1" * 64)
        attempt.checkpoint(8, python="0" * 64, torch=digest * 64)
        attempt.checkpoint(10, python=digest * 64, torch=digest * 64)
    found = compare(client, *attempts)
    first = {"stage": "generators", "step": 8, "generator": "torch", "left": "a" * 64, "right": "b" * 64}
    assert (found["verdict"], found["fingerprint"], found["generators"]) == ("diverged", first, first)
    assert found["summary"] == (
        "diverged: the state of the random generator torch at the checkpoint of step 8 differs "
        "(aaaaaaaaaaaa and bbbbbbbbbbbb); every metric of 10 steps is equal"
    )


def test_weights_that_differ_are_named_before_generators(client, attempts):
    for attempt, digest in zip(attempts, "ab", strict=True):
        attempt.checkpoint(5, torch=digest * 64)
        attempt.checkpoint(10, fingerprint=digest * 64, torch=digest * 64)
    found = compare(client, *attempts)
    assert (found["fingerprint"]["stage"], found["fingerprint"]["step"]) == ("checkpoint", 10)
    assert (found["generators"]["generator"], found["generators"]["step"]) == ("torch", 5)


def test_generators_that_only_one_has_are_not_compared(client, attempts):
    left, right = attempts
    for attempt in attempts:
        train(attempt, history(10))
    left.checkpoint(5, torch="a" * 64)
    right.checkpoint(5, torch="a" * 64, **{"cuda:0": "b" * 64})
    left.checkpoint(10, torch="c" * 64)
    right.checkpoint(10)
    found = compare(client, *attempts)
    assert (found["verdict"], found["generators"]) == ("identical-so-far", None)


def test_checkpoints_that_are_not_kept_are_compared_all_the_same(client, submit, worker):
    attempts = [worker.claim(submit(seed=7, on_existing="new", checkpoints={"keep_last": 2})["id"]) for _ in range(2)]
    for attempt, digest in zip(attempts, "ab", strict=True):
        for step in (1, 2, 3, 4):
            attempt.checkpoint(step, fingerprint=(digest if step == 2 else "0") * 64)
    found = compare(client, *attempts)
    assert (found["checkpoints"], found["fingerprint"]["step"]) == (4, 2)


def test_nothing_in_common_is_not_comparable(client, submit, worker):
    jobs = [submit(seed=seed)["id"] for seed in (1, 2)]
    found = compare(client, *jobs)
    assert found["verdict"] == "not-comparable"
    assert "nothing to compare yet" in found["summary"]
    for job in jobs:
        attempt = worker.claim(job)
        attempt.metrics(0, [job], **{LOSS: [1.0]})
        complete(attempt)
    found = compare(client, *jobs)
    assert found["verdict"] == "not-comparable"
    assert found["summary"] == f"not comparable: jobs {jobs[0]} and {jobs[1]} have no metric of the same step"


def test_what_was_submitted_differently_is_listed(client, submit, worker, config):
    left = submit(seed=1, determinism="strict")["id"]
    config["model"]["descriptor"]["rcut"] = 6.5
    right = submit(seed=2)["id"]
    found = compare(client, left, right)
    values = {one["pointer"]: (one["left"], one["right"]) for one in found["config"]}
    assert values["/model/descriptor/rcut"] == (5.0, 6.5)
    assert values["/model/descriptor/seed"][0] != values["/model/descriptor/seed"][1]
    spec = {one["pointer"]: (one["left"], one["right"]) for one in found["spec"]}
    assert spec["/seed"] == (1, 2)
    assert spec["/determinism"] == ("strict", "seeded")
    assert any(pointer.startswith("/seeds/") for pointer in spec)
    assert not any(pointer.startswith("/datasets") for pointer in spec)


def environment(**changes):
    return {
        "host": "one",
        "cpu": {"model": "EPYC", "usable": 4},
        "gpus": [{"name": "H200", "driver": "550"}],
        "libraries": {"deepmd-kit": "3.2.0"},
    } | changes


def test_environments_are_compared_where_the_runs_part(client, attempts, worker):
    left, right = attempts
    left.environment(environment())
    right.environment(environment())
    train(left, history(40))
    train(right, history(20))
    right.checkpoint(20)
    right.end("interrupted", 20)
    again = worker.claim(right.claim["job_id"], 2)
    again.environment(environment(host="two", libraries={"deepmd-kit": "3.1.0"}, gpus=[]))
    same = compare(client, left, right)
    assert (same["environment"]["left_attempt"], same["environment"]["right_attempt"]) == (1, 2), "the newest"
    train(again, {key: values[20:] for key, values in history(40, at30=5.0).items()}, first=21)
    found = compare(client, left, right)
    assert found["divergence"]["step"] == 31
    differences = {
        one["pointer"]: (one["left"], one["right"], one["only"]) for one in found["environment"]["differences"]
    }
    assert differences == {
        "/gpus": (None, [], "right"),
        "/gpus/0/driver": ("550", None, "left"),
        "/gpus/0/name": ("H200", None, "left"),
        "/host": ("one", "two", None),
        "/libraries/deepmd-kit": ("3.2.0", "3.1.0", None),
    }
    (move,) = found["moves"]
    assert (move["left_job"], move["left_attempt"], move["right_attempt"]) == (right.claim["job_id"], 1, 2)
    assert {one["pointer"]: one["right"] for one in found["spec"]} == {"/library": "3.1.0"}


def test_a_divergence_before_the_move_shows_the_environments_before_it(client, attempts, worker):
    left, right = attempts
    for attempt in attempts:
        attempt.environment(environment())
    train(left, history(40))
    train(right, history(20, at7=5.0))
    right.checkpoint(20)
    right.end("interrupted", 20)
    worker.claim(right.claim["job_id"], 2).environment(environment(host="two"))
    found = compare(client, left, right)
    assert (found["environment"]["right_attempt"], found["environment"]["differences"]) == (1, [])
    assert len(found["moves"]) == 1


def test_a_job_equals_itself(client, attempts):
    left, _ = attempts
    train(left, history(50))
    found = compare(client, left, left)
    assert (found["verdict"], found["steps"]) == ("identical-so-far", 50)


def test_metrics_that_came_late_are_in_their_place(client, attempts, small_blocks):
    left, right = attempts
    train(left, history(200))
    columns = history(200)
    for seq, (start, stop) in enumerate([(0, 50), (80, 200), (50, 80)]):
        part = {key: values[start:stop] for key, values in columns.items()}
        assert right.metrics(seq, list(range(start + 1, stop + 1)), **part).status_code == 204
    found = compare(client, left, right)
    assert (found["steps"], found["verdict"], found["uneven"]) == (200, "identical-so-far", [])


def test_a_merge_while_a_run_is_read_loses_nothing(app, attempts, small_blocks):
    attempt, _ = attempts
    train(attempt, history(50), rows=10)
    with reading(app.state.sessions) as session:
        run = Run.of(session, service.get(session, attempt.claim["job_id"]))
        train(attempt, {key: values[50:] for key, values in history(90).items()}, first=51, rows=40)
        steps = np.concatenate([series.steps for series in run.stream(LOSS)])
    assert (np.diff(steps) == 1).all()
    assert steps[0] == 1
    assert steps[-1] >= 50


def test_an_unchanged_pair_is_not_compared_again(client, attempts):
    left, right = (attempt.claim["job_id"] for attempt in attempts)
    path = f"/api/v1/jobs/{left}/compare/{right}"
    tag = client.get(path).headers["ETag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    attempts[1].metrics(0, [1], **{LOSS: [1.0]})
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_a_job_that_does_not_exist_is_named(client, submit):
    job = submit()["id"]
    for path in (f"{job}/compare/999", f"999/compare/{job}"):
        answer = client.get(f"/api/v1/jobs/{path}")
        assert answer.status_code == 404
        assert "999" in answer.json()["message"]
    for odd in ("0", "x", "1.5", str(2**64)):
        assert client.get(f"/api/v1/jobs/{job}/compare/{odd}").status_code == 404
