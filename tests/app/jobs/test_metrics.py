import io
import math
from itertools import pairwise

import numpy as np
import pyarrow as pa  # noqa: TID253 -- the tests speak Arrow themselves
import pytest
from sqlalchemy import select, update

from app.jobs import metric_blocks, metrics
from app.tables import MetricBlock, MetricChunk
from tests.app.simulated import arrow

NAN, INF = math.nan, math.inf


@pytest.fixture
def attempt(worker, submit):
    return worker.claim(submit()["id"])


@pytest.fixture
def small_blocks(monkeypatch):
    """Merge often, into small blocks."""
    monkeypatch.setattr(metric_blocks, "BLOCK_ROWS", 100)
    monkeypatch.setattr("app.jobs.metrics.MERGE_ROWS", 30)


def url(attempt) -> str:
    return f"/api/v1/jobs/{attempt.claim['job_id']}/metrics"


def read(client, attempt, **query):
    answer = client.get(url(attempt), params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def send(attempt, seq: int, steps, **columns) -> None:
    answer = attempt.metrics(seq, list(steps), **columns)
    assert answer.status_code == 204, answer.text


def job(client, attempt):
    return client.get(f"/api/v1/jobs/{attempt.claim['job_id']}").json()


def test_values_come_back_bit_for_bit(client, attempt):
    values = [0.1, 1e-300, -5e-324, 1.7976931348623157e308, 1 / 3]
    send(attempt, 0, [1, 2, 3, 5, 8], **{"train/loss": values})
    answer = read(client, attempt)
    assert answer == {"steps": {"train/loss": [1, 2, 3, 5, 8]}, "values": {"train/loss": values}, "non_finite": {}}


def test_what_was_not_measured_differs_from_what_is_not_a_number(client, attempt):
    send(attempt, 0, [1, 2, 3, 4], a=[1.0, None, NAN, 4.0], b=[None, INF, -INF, None])
    answer = read(client, attempt)
    assert answer["steps"] == {"a": [1, 3, 4], "b": [2, 3]}
    assert answer["values"] == {"a": [1.0, None, 4.0], "b": [None, None]}
    assert answer["non_finite"] == {"a": [[3, "nan"]], "b": [[2, "inf"], [3, "-inf"]]}


def test_a_repeated_batch_changes_nothing(client, app, attempt):
    send(attempt, 0, [1, 2], a=[1.0, 2.0])
    version = job(client, attempt)["progress"]
    send(attempt, 0, [1, 2], a=[7.0, 7.0])
    assert read(client, attempt)["values"] == {"a": [1.0, 2.0]}
    assert job(client, attempt)["progress"] == version
    with app.state.sessions() as session:
        assert len(session.scalars(select(MetricChunk)).all()) == 1


def test_a_job_shows_its_newest_values(client, attempt):
    send(attempt, 0, [1, 2, 3], **{"train/loss": [3.0, 2.0, 1.0], "val/rmse_f": [None, 0.5, None], "bad": [1, 1, NAN]})
    progress = job(client, attempt)["progress"]
    assert progress["step"] == 3
    assert progress["latest"] == {"train/loss": 1.0, "val/rmse_f": 0.5, "bad": None}
    send(attempt, 1, [4], **{"train/loss": [0.5]})
    assert job(client, attempt)["progress"]["latest"]["train/loss"] == 0.5
    assert job(client, attempt)["progress"]["latest"]["val/rmse_f"] == 0.5


def test_a_batch_that_comes_late_does_not_turn_the_job_back(client, attempt):
    send(attempt, 1, [3, 4], a=[3.0, 4.0])
    send(attempt, 0, [1, 2], a=[1.0, 2.0])
    assert job(client, attempt)["progress"]["latest"] == {"a": 4.0}
    assert job(client, attempt)["progress"]["step"] == 4
    assert read(client, attempt)["values"] == {"a": [1.0, 2.0, 3.0, 4.0]}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("order", ["in order", "shuffled"])
def test_merged_batches_read_like_unmerged_ones(client, app, attempt, order):
    batches = [(seq, list(range(seq * 7 + 1, seq * 7 + 8))) for seq in range(100)]
    if order == "shuffled":
        np.random.default_rng(1).shuffle(batches)
    for seq, steps in batches:
        sparse = [float(step) if step % 5 == 0 else None for step in steps]
        send(attempt, seq, steps, **{"train/loss": [step / 3 for step in steps], "val/loss": sparse})
    answer = read(client, attempt)
    assert answer["steps"] == {"train/loss": list(range(1, 701)), "val/loss": list(range(5, 701, 5))}
    assert answer["values"]["train/loss"] == [step / 3 for step in range(1, 701)]
    with app.state.sessions() as session:
        blocks = session.scalars(select(MetricBlock).order_by(MetricBlock.key, MetricBlock.first_step)).all()
        waiting = session.scalars(select(MetricChunk).where(~MetricChunk.merged)).all()
        done = session.scalars(select(MetricChunk).where(MetricChunk.merged)).all()
    assert len(waiting) < 5
    assert {chunk.data for chunk in done} == {b""}
    for one, other in pairwise(blocks):
        assert one.key != other.key or one.last_step < other.first_step
    assert max(block.rows for block in blocks) <= 100
    if order == "in order":
        assert len(blocks) < 12
        # Evenly spaced steps cost no bytes.
        assert {block.steps for block in blocks} == {b""}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "database_url", ["sqlite"], indirect=True
)  # PostgreSQL's planner goes by how many rows there are
def test_what_waits_to_be_merged_is_found_without_reading_what_was(app, attempt):
    """A training that has sent batches for a week must not pay for each of them with every new one."""
    send(attempt, 0, [1], a=[1.0])
    with app.state.sessions.kw["bind"].connect() as connection:
        statement = str(metrics._STANDING.compile(connection))
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement.replace('?', '1')}").all()
    scans = [row[3] for row in plan if "metric_chunks" in row[3]]
    assert [("ix_metric_chunks_unmerged" in scan) or ("COVERING" in scan) for scan in scans] == [True] * 3


def test_uneven_steps_survive_merging(client, attempt):
    steps = sorted({int(step) for step in np.random.default_rng(2).integers(0, 10_000, 400)})
    for seq in range(0, len(steps), 20):
        part = steps[seq : seq + 20]
        send(attempt, seq, part, a=[float(step) for step in part])
    answer = read(client, attempt)
    assert answer["steps"]["a"] == steps
    assert answer["values"]["a"] == [float(step) for step in steps]
    assert read(client, attempt, from_step=500, to_step=7000)["steps"]["a"] == [s for s in steps if 500 <= s <= 7000]


def test_one_large_batch_is_kept_once_as_blocks(client, app, attempt):
    steps = list(range(1, 20_001))
    send(attempt, 0, steps, a=[float(step) for step in steps])
    with app.state.sessions() as session:
        assert session.scalars(select(MetricChunk.data)).all() == [b""]
        assert session.scalars(select(MetricBlock.rows)).all() == [20_000]
    assert len(read(client, attempt, max_points=100_000)["steps"]["a"]) == 20_000


@pytest.mark.usefixtures("small_blocks")
def test_after_a_resume_the_newest_attempt_wins_from_its_start_step_on(client, app, worker, attempt):
    for seq in range(10):
        steps = range(seq * 10 + 1, seq * 10 + 11)
        send(attempt, seq, steps, a=[1.0] * 10, **{"val/a": [1.0] + [None] * 9})
    attempt.checkpoint(55)
    assert attempt.end("interrupted", 100).status_code == 200
    second = worker.claim(attempt.claim["job_id"], 2)
    assert second.claim["resume_from"]["step"] == 55
    answer = read(client, attempt)
    assert answer["steps"] == {"a": list(range(1, 56)), "val/a": [1, 11, 21, 31, 41, 51]}
    send(second, 0, range(56, 61), a=[2.0] * 5)
    answer = read(client, attempt)
    assert answer["steps"]["a"] == list(range(1, 61))
    assert answer["values"]["a"] == [1.0] * 55 + [2.0] * 5
    keys = client.get(f"{url(attempt)}/keys").json()["keys"]
    assert keys == [
        {"key": "a", "count": 60, "first_step": 1, "last_step": 60, "last": 2.0},
        {"key": "val/a", "count": 6, "first_step": 1, "last_step": 51, "last": 1.0},
    ]


def test_keys_can_be_chosen_by_name_and_by_pattern(client, attempt):
    send(attempt, 0, [1], **{"train/a": [1.0], "val/a": [2.0], "val/b": [3.0], "lr": [4.0]})
    assert list(read(client, attempt)["values"]) == ["lr", "train/a", "val/a", "val/b"]
    assert list(read(client, attempt, keys="val/*, lr")["values"]) == ["val/a", "val/b", "lr"]
    assert read(client, attempt, keys="lr,never")["values"] == {"lr": [4.0], "never": []}


@pytest.mark.parametrize("points", [100, 500])  # few enough for outlines, and too many for them
def test_a_chart_keeps_extremes_ends_and_gaps(client, attempt, points):
    values = np.sin(np.arange(50_000) / 700)
    values[12_345], values[34_567], values[40_000] = 1e6, -1e6, NAN
    send(attempt, 0, range(1, 50_001), a=values.tolist())
    send(attempt, 1, [50_001], a=[0.5])
    answer = read(client, attempt, max_points=points)
    steps = answer["steps"]["a"]
    assert points * 0.8 < len(steps) <= points
    assert {1, 12_346, 34_568, 40_001, 50_001} <= set(steps)
    assert answer["non_finite"] == {"a": [[40_001, "nan"]]}
    known = dict(zip(range(1, 50_001), values.tolist(), strict=True)) | {50_001: 0.5, 40_001: None}
    assert answer["values"]["a"] == [known[step] for step in steps]


def test_a_chart_of_very_many_steps_reads_outlines_only(app, client, attempt):
    send(attempt, 0, range(1, 50_001), a=[1.0] * 50_000)
    with app.state.sessions() as session:
        session.execute(update(MetricBlock).values(values=b""))
        session.commit()
    assert set(read(client, attempt, max_points=100)["values"]["a"]) == {1.0}
    part = read(client, attempt, max_points=100, from_step=10_000, to_step=45_000)["steps"]["a"]
    assert (part[0] - 10_000 < 128, 45_000 - part[-1] < 128) == (True, True)


def test_an_unchanged_job_answers_304(client, attempt):
    send(attempt, 0, [1], a=[1.0])
    tag = client.get(url(attempt)).headers["ETag"]
    assert client.get(url(attempt), headers={"If-None-Match": tag}).status_code == 304
    send(attempt, 1, [2], a=[1.0])
    assert client.get(url(attempt), headers={"If-None-Match": tag}).status_code == 200


def test_csv_has_every_step_and_leaves_out_nothing(client, attempt):
    send(attempt, 0, [1, 2, 3], **{"lr": [0.1, 0.1, 0.1], "val/a": [None, NAN, -INF]})
    answer = client.get(url(attempt), params={"format": "csv"})
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    assert answer.text == "step,lr,val/a\n1,0.1,\n2,0.1,nan\n3,0.1,-inf\n"
    answer = client.get(url(attempt), params={"format": "csv", "keys": "val/a"})
    assert answer.text == "step,val/a\n2,nan\n3,-inf\n"


@pytest.mark.usefixtures("small_blocks")
def test_long_exports_are_whole(client, attempt, monkeypatch):
    monkeypatch.setattr("app.jobs.metric_reading.windows.__defaults__", (64,))
    for seq in range(10):
        steps = list(range(seq * 50 + 1, seq * 50 + 51))
        send(attempt, seq, steps, a=[step / 7 for step in steps], b=[1.0 if step % 9 == 0 else None for step in steps])
    lines = client.get(url(attempt), params={"format": "csv"}).text.splitlines()
    assert len(lines) == 501
    assert [float(line.split(",")[1]) for line in lines[1:]] == [step / 7 for step in range(1, 501)]
    answer = client.get(url(attempt), params={"format": "arrow"})
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.column("step").to_pylist() == list(range(1, 501))
    assert table.column("a").to_pylist() == [step / 7 for step in range(1, 501)]
    assert table.column("b").null_count == 500 - 55
    part = client.get(url(attempt), params={"format": "csv", "from_step": 100, "to_step": 200, "keys": "a"})
    assert [int(line.split(",")[0]) for line in part.text.splitlines()[1:]] == list(range(100, 201))
    thin = client.get(url(attempt), params={"format": "csv", "max_points": 20, "keys": "a"}).text.splitlines()
    assert 10 < len(thin) <= 21


def test_a_job_without_metrics_has_empty_answers(client, attempt):
    assert read(client, attempt) == {"steps": {}, "values": {}, "non_finite": {}}
    assert client.get(f"{url(attempt)}/keys").json() == {"keys": []}
    assert client.get(url(attempt), params={"format": "csv"}).text == "step\n"
    assert pa.ipc.open_stream(client.get(url(attempt), params={"format": "arrow"}).content).read_all().num_rows == 0


def test_the_learning_curve_is_the_engines_own(client, attempt):
    steps = [1, 100, 200]
    names = ("train/loss", "train/rmse", "train/rmse_e", "train/rmse_f", "lr")
    send(attempt, 0, steps, **{name: [0.5, 0.25, 0.125] for name in names})
    answer = client.get(url(attempt), params={"format": "lcurve"})
    assert answer.status_code == 200
    assert 'filename="lcurve.out"' in answer.headers["Content-Disposition"]
    rows = [line.split() for line in answer.text.splitlines() if not line.startswith("#")]
    assert [int(row[0]) for row in rows] == steps


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"max_points": 1}, 422),
        ({"max_points": "many"}, 422),
        ({"from_step": -1}, 422),
        ({"format": "xlsx"}, 422),
        ({"maxpoints": 100}, 422),
    ],
)
def test_a_wrong_query_is_named(client, attempt, query, code):
    answer = client.get(url(attempt), params=query)
    assert answer.status_code == code
    assert next(iter(query)) in answer.json()["message"]


def test_an_unknown_job_is_not_found(client):
    assert client.get("/api/v1/jobs/999/metrics").status_code == 404
    assert client.get("/api/v1/jobs/999/metrics/keys").status_code == 404


def post(attempt, data: bytes, seq: int | str = 0):
    return attempt.send("POST", f"{attempt.path}/metrics?seq={seq}", content=data)


def stream(**columns: pa.Array) -> bytes:
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


STEPS = pa.array([1, 2], pa.int64())
FLOATS = pa.array([1.0, 2.0])

GOOD = arrow([1, 2], {"a": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "Arrow"),
        (b"not arrow at all", "Arrow"),
        (GOOD[: len(GOOD) // 2], "Arrow"),
        (stream(a=FLOATS), "`step`"),
        (stream(step=pa.array([1.0, 2.0]), a=FLOATS), "`step`"),
        (stream(step=pa.array([1, None], pa.int64()), a=FLOATS), "`step`"),
        (stream(step=pa.array([2, 2], pa.int64()), a=FLOATS), "increase"),
        (stream(step=pa.array([3, 2], pa.int64()), a=FLOATS), "increase"),
        (stream(step=pa.array([-1, 2], pa.int64()), a=FLOATS), "negative"),
        (stream(step=pa.array([], pa.int64()), a=pa.array([], pa.float64())), "rows"),
        (stream(step=STEPS, a=pa.array([1, 2])), "int64"),
        (stream(step=STEPS, a=pa.array(["x", "y"])), "string"),
        (stream(step=STEPS, **{"a b": FLOATS}), "metric key"),
        (stream(step=STEPS, **{"": FLOATS}), "metric key"),
        (stream(step=STEPS, **{"a" * 201: FLOATS}), "metric key"),
        (stream(step=STEPS, **{"../a": FLOATS}), "metric key"),
    ],
)
def test_a_malformed_batch_is_refused_with_the_reason(client, attempt, data, words):
    answer = post(attempt, data)
    assert answer.status_code == 422
    assert answer.json()["code"] == "bad-metrics"
    assert words in answer.json()["message"]
    assert read(client, attempt)["values"] == {}


def test_a_sequence_number_is_needed(attempt):
    for seq in ("", "-1", "x", 2**31):
        assert post(attempt, GOOD, seq).status_code == 422


def test_an_attempt_that_is_over_reports_nothing_more(client, attempt):
    attempt.end("completed", 1000)
    answer = post(attempt, GOOD)
    assert (answer.status_code, answer.json()["code"]) == (409, "attempt-superseded")
