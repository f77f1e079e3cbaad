"""Metrics reach their files whole, exact and without what follows a divergence."""

import math

import pyarrow as pa
import pytest
import torch

from worker.background import Background
from worker.spool import MetricSpool, NonFiniteLoss


@pytest.fixture
def make_spool(tmp_path):
    with Background() as background:
        yield lambda **options: MetricSpool(tmp_path, background, **options)


def _read(directory):
    rows = []
    for path in sorted(directory.glob("*.arrow")):
        with pa.OSFile(str(path)) as file:
            rows += pa.ipc.open_stream(file).read_all().to_pylist()
    return rows


def test_null_is_not_measured_and_nan_is_a_value(make_spool, tmp_path):
    spool = make_spool()
    spool.add(1, {"train/loss": 0.1, "train/rmse_v": math.nan})
    spool.add(2, {"train/loss": 1e-300})
    spool.add(2, {"val/rmse_f": math.inf})
    spool.drain()
    first, second = _read(tmp_path)
    assert first["step"] == 1
    assert first["train/loss"] == 0.1
    assert math.isnan(first["train/rmse_v"])
    assert first["val/rmse_f"] is None
    assert second == {"step": 2, "train/loss": 1e-300, "train/rmse_v": None, "val/rmse_f": math.inf}


def test_a_batch_is_one_stream_with_the_types_of_the_protocol(make_spool, tmp_path):
    spool = make_spool()
    spool.add(7, {"lr": 1})
    spool.drain()
    [path] = tmp_path.iterdir()
    assert path.name == "000000.arrow"
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_stream(file).read_all()
    assert table.schema == pa.schema({"step": pa.int64(), "lr": pa.float64()})


def test_nothing_is_written_twice_and_files_are_numbered_without_a_gap(make_spool, tmp_path):
    spool = make_spool()
    for step in range(1, 6):
        spool.add(step, {"train/loss": float(step)})
        spool.flush()
        spool.flush()
    spool.drain()
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"{n:06d}.arrow" for n in range(5)]
    assert [row["step"] for row in _read(tmp_path)] == [1, 2, 3, 4, 5]


def test_tensors_are_fetched_together_by_dtype(make_spool, tmp_path):
    spool = make_spool()
    spool.add(1, {"train/loss": torch.tensor(0.1, dtype=torch.float64), "train/rmse_f": torch.tensor(0.5)})
    spool.add(2, {"train/loss": torch.tensor(0.3, dtype=torch.float64), "lr": 2.0})
    spool.drain()
    assert _read(tmp_path) == [
        {"step": 1, "lr": None, "train/loss": 0.1, "train/rmse_f": 0.5},
        {"step": 2, "lr": 2.0, "train/loss": 0.3, "train/rmse_f": None},
    ]
    assert spool.latest == {"train/loss": 0.3, "train/rmse_f": 0.5, "lr": 2.0}


def test_a_non_finite_loss_on_the_host_is_told_at_once_and_kept(make_spool, tmp_path):
    spool = make_spool()
    spool.add(1, {"train/loss": 1.0})
    with pytest.raises(NonFiniteLoss) as told:
        spool.add(2, {"train/loss": math.nan})
    assert told.value.step == 2
    with pytest.raises(NonFiniteLoss):
        spool.drain()
    assert [row["step"] for row in _read(tmp_path)] == [1, 2]


def test_steps_after_a_non_finite_loss_on_the_device_are_dropped(make_spool, tmp_path):
    spool = make_spool()
    for step, loss in enumerate((1.0, math.inf, math.nan, math.nan), start=1):
        spool.add(step, {"train/loss/water": torch.tensor(loss)})
    with pytest.raises(NonFiniteLoss) as told:
        spool.drain()
    assert told.value.step == 2
    assert [row["step"] for row in _read(tmp_path)] == [1, 2]
    spool.drain()


def test_a_missing_label_is_no_divergence(make_spool, tmp_path):
    spool = make_spool()
    spool.add(1, {"train/loss": 1.0, "train/rmse_v": math.nan})
    spool.drain()
    assert len(_read(tmp_path)) == 1


def test_the_first_step_is_due_at_once_and_the_rest_by_time_or_number(make_spool):
    spool = make_spool(flush_s=1000.0, max_rows=3)
    spool.add(1, {"lr": 1.0})
    assert spool.is_due()
    spool.flush()
    for step in (2, 3):
        spool.add(step, {"lr": 1.0})
        assert not spool.is_due()
    spool.add(4, {"lr": 1.0})
    assert spool.is_due()


def test_a_full_disk_is_told_by_the_next_write(make_spool, tmp_path):
    spool = make_spool()
    (tmp_path / ".000000.arrow.tmp").mkdir()  # no file can be opened there
    spool.add(1, {"lr": 1.0})
    with pytest.raises(OSError, match=r"000000\.arrow"):
        spool.drain()
