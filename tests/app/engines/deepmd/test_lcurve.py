"""The learning curve has the form in which stock DeePMD-kit writes it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.engines.deepmd import ENGINE

CONFIG: dict[str, Any] = {
    "model": {
        "type_map": ["Cu"],
        "descriptor": {"type": "se_e2_a", "rcut": 3.0, "rcut_smth": 2.0, "sel": [16], "neuron": [2], "axis_neuron": 1},
        "fitting_net": {"neuron": [2]},
    },
    "learning_rate": {"type": "exp", "start_lr": 0.001, "stop_lr": 1e-5},
    "loss": {},
    "training": {
        "training_data": {"systems": [], "batch_size": 1},
        "numb_steps": 7,
        "disp_freq": 3,
        "save_freq": 100,
        "seed": 1,
    },
}


def write_system(path: Path) -> None:
    rng = np.random.default_rng(0)
    frames, atoms = 4, 4
    (path / "set.000").mkdir(parents=True)
    (path / "type.raw").write_text("0\n" * atoms)
    (path / "type_map.raw").write_text("Cu\n")
    arrays = {
        "box": np.tile((np.eye(3) * 3.6).ravel(), (frames, 1)),
        "coord": rng.random((frames, atoms * 3)) * 3.6,
        "energy": rng.random(frames),
        "force": rng.random((frames, atoms * 3)),
    }
    for name, array in arrays.items():
        np.save(path / "set.000" / f"{name}.npy", array)


def train(directory: Path, config: dict[str, Any]) -> str:
    """Train with stock dp and return its lcurve.out."""
    (directory / "input.json").write_text(json.dumps(config))
    threads = {"OMP_NUM_THREADS": "1", "DP_INTRA_OP_PARALLELISM_THREADS": "1", "DP_INTER_OP_PARALLELISM_THREADS": "1"}
    command = [str(Path(sys.executable).with_name("dp")), "--pt", "train", "input.json", "--skip-neighbor-stat"]
    environment = {**os.environ, **threads, "NUM_WORKERS": "0"}
    subprocess.run(command, cwd=directory, env=environment, check=True, capture_output=True)
    return (directory / "lcurve.out").read_text()


def columns_of(text: str, tasks: list[str]) -> tuple[list[int], dict[str, list[float | None]]]:
    """Return the metrics that Cairn would have recorded for what is in a learning curve."""
    head, _, *rows = text.splitlines()
    names = head.split()[2:-1]
    table = [[float(cell) for cell in row.split()] for row in rows]
    columns: dict[str, list[float | None]] = {"lr": [row[-1] for row in table]}
    for index, name in enumerate(names, start=1):
        term, kind, task = re.fullmatch(r"(.+)_(val|trn)(?:_(.+))?", name).groups()  # type: ignore[union-attr]
        key = f"{'val' if kind == 'val' else 'train'}/{term}" + (f"/{task}" if task else "")
        columns[key] = [row[index] for row in table]
    assert tasks == sorted({key.split("/")[2] for key in columns if key.count("/") == 2})
    return [int(row[0]) for row in table], columns


def with_other_steps(
    steps: list[int], columns: dict[str, list[float | None]], total: int
) -> tuple[list[int], dict[str, list[float | None]]]:
    """Add the steps that DeePMD-kit does not write, with values of their own; validation only where it was."""
    every = list(range(1, total + 1))
    return every, {
        key: [
            values[steps.index(step)] if step in steps else (None if key.startswith("val/") else 99.0) for step in every
        ]
        for key, values in columns.items()
    }


@pytest.mark.deepmd
def test_a_single_task_curve_with_validation_is_byte_for_byte_what_dp_writes(tmp_path: Path) -> None:
    write_system(tmp_path / "data")
    config = json.loads(json.dumps(CONFIG))
    config["training"]["training_data"]["systems"] = [str(tmp_path / "data")]
    config["training"]["validation_data"] = {"systems": [str(tmp_path / "data")], "batch_size": 1}
    written = train(tmp_path, config)
    steps, columns = with_other_steps(*columns_of(written, []), total=7)
    assert "".join(ENGINE.learning_curve(config, steps, columns)) == written
    assert [line.split()[0] for line in written.splitlines()[2:]] == ["1", "3", "6"]


@pytest.mark.deepmd
@pytest.mark.long  # the single-task curve is held to what dp writes, too
def test_a_multi_task_curve_without_validation_is_byte_for_byte_what_dp_writes(tmp_path: Path) -> None:
    write_system(tmp_path / "data")
    config = json.loads(json.dumps(CONFIG))
    model = config["model"]
    branch = {"type_map": "types", "descriptor": model["descriptor"], "fitting_net": model["fitting_net"]}
    config["model"] = {"shared_dict": {"types": ["Cu"]}, "model_dict": {"b": branch, "a": branch}}
    del config["loss"]
    config["loss_dict"] = {"a": {}, "b": {}}
    data = {"systems": [str(tmp_path / "data")], "batch_size": 1}
    del config["training"]["training_data"]
    config["training"]["data_dict"] = {name: {"training_data": data} for name in ("a", "b")}
    written = train(tmp_path, config)
    steps, columns = with_other_steps(*columns_of(written, ["a", "b"]), total=7)
    assert "".join(ENGINE.learning_curve(config, steps, columns)) == written


def test_tasks_without_data_at_a_step_show_their_newest_value() -> None:
    config = {"model": {"model_dict": {"a": {}, "b": {}}}, "training": {"disp_freq": 2}}
    columns: dict[str, list[float | None]] = {
        "train/rmse/a": [1.0, None, None, None],
        "train/rmse/b": [None, 2.0, 3.0, None],
        "lr": [0.1, 0.1, 0.1, 0.1],
    }
    rows = list(ENGINE.learning_curve(config, [1, 2, 3, 4], columns))[2:]
    assert [row.split() for row in rows] == [
        ["1", "1.00e+00", "nan", "1.0e-01"],
        ["2", "nan", "2.00e+00", "1.0e-01"],
        ["4", "nan", "3.00e+00", "1.0e-01"],
    ]


def test_without_rmse_the_root_of_the_loss_stands_for_it() -> None:
    config = {"model": {}, "training": {"disp_freq": 1}}
    lines = list(ENGINE.learning_curve(config, [1], {"train/loss": [4.0], "train/rmse_f": [0.5], "lr": [1e-3]}))
    assert lines[0].split() == ["#", "step", "rmse_trn", "rmse_f_trn", "lr"]
    assert lines[2].split() == ["1", "2.00e+00", "5.00e-01", "1.0e-03"]


def test_no_steps_make_a_header() -> None:
    assert len(list(ENGINE.learning_curve({"model": {}, "training": {"disp_freq": 1}}, [], {}))) == 2
