"""Jobs of kind test: every error is the one that `dp --pt test` prints, and the rest of what they leave."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from tests.worker.engines.runs import metrics_of

pytestmark = [
    pytest.mark.deepmd,
    pytest.mark.filterwarnings("ignore:`torch.jit"),  # how inference is made to repeat
]

DEFAULTS = {"numb_test": 0, "detail": True, "worst": 3, "head": None}
KEYS = {
    "Energy MAE": "mae_e", "Energy RMSE": "rmse_e", "Energy MAE/Natoms": "mae_ea", "Energy RMSE/Natoms": "rmse_ea",
    "Force  MAE": "mae_f", "Force  RMSE": "rmse_f", "Virial MAE": "mae_v", "Virial RMSE": "rmse_v",
    "Virial MAE/Natoms": "mae_va", "Virial RMSE/Natoms": "rmse_va", "Stress MAE": "mae_s", "Stress RMSE": "rmse_s",
}  # fmt: skip
"""What `dp test` calls an error, and its name in the report."""


@pytest.fixture(scope="module")
def tested(task, checkpoints):
    """One checkpoint on the whole dataset: the result and the run directory."""
    return task("test", checkpoints[1:], 13, config={**DEFAULTS, "data": ["dataset:cu@1"]})


@pytest.fixture(scope="module")
def stock(checkpoints, data_root, tmp_path_factory):
    """What `dp --pt test` says of the same, and the directory of its details."""
    where = tmp_path_factory.mktemp("stock")
    dp = str(Path(sys.executable).with_name("dp"))
    systems = where / "systems.txt"
    systems.write_text("".join(f"{data_root}/cu@1/{name}\n" for name in ("large", "single", "small")))
    command = [dp, "--pt", "test", "-m", str(checkpoints[1]), "-f", str(systems), "-d", "results"]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=280, check=True)
    return done.stderr + done.stdout, where


def report_of(run):
    return json.loads((run.files / "test.json").read_text())


def printed(text):
    """Return the digits that `dp test` printed, by system, and of all data under None."""
    found, now = {}, None
    for line in text.splitlines():
        if match := re.search(r"testing system : .*/cu@1/(\w+)", line):
            now = found.setdefault(match[1], {})
        elif "weighted average of errors" in line:
            now = found.setdefault(None, {})
        elif (match := re.search(r"((?:Energy|Force|Virial|Stress) .*?)\s*: (\S+) eV", line)) and now is not None:
            now[match[1]] = match[2]
    return found


def test_every_error_is_what_dp_test_prints(tested, stock):
    result, run = tested
    assert (result.outcome, result.step) == ("completed", 13), result
    (model,) = report_of(run)["models"]
    ours = {row["name"].rsplit("/", 1)[-1]: row["errors"] for row in model["systems"]} | {None: model["overall"]}
    theirs = printed(stock[0])
    assert set(theirs) == set(ours) == {"large", "single", "small", None}
    for system, lines in theirs.items():
        assert len(lines) == len(KEYS), "twelve lines of each"
        assert lines == {words: f"{ours[system][key]:e}" for words, key in KEYS.items()}, system


def test_details_are_dp_tests(tested, stock):
    _, run = tested
    for ending in ("e", "f", "v", "e_peratom", "v_peratom", "s"):
        ours, theirs = (np.loadtxt(where / f"results.{ending}.out") for where in (run.files, stock[1]))
        assert np.allclose(ours, theirs, rtol=1e-9, atol=1e-12), ending
    assert (run.files / "results.f.out").read_text().startswith("# cu@1/large: data_fx")


def test_metrics_end_at_the_errors_of_all_data(tested):
    _, run = tested
    (model,) = report_of(run)["models"]
    rows = metrics_of(run)
    assert len(rows) == 13
    for metric, key in (("e", "ea"), ("f", "f"), ("v", "va")):
        for error in ("mae", "rmse"):
            assert rows[13][f"test/{error}_{metric}"] == pytest.approx(model["overall"][f"{error}_{key}"], rel=1e-12)
    assert rows[1]["frame/rmse_f"] == rows[1]["test/rmse_f"] != rows[13]["frame/rmse_f"]


def test_forces_are_told_apart_by_element(tested):
    _, run = tested
    (model,) = report_of(run)["models"]
    elements = {row["name"]: row for row in model["elements"]}
    assert {name: one["atoms"] for name, one in elements.items()} == {"Au": 7 * 3 + 5 * 2 + 2, "Cu": 7 * 5 + 5 * 2 + 2}
    squares = sum(one["atoms"] * one["errors"]["rmse_f"] ** 2 for one in elements.values())
    assert (squares / sum(one["atoms"] for one in elements.values())) ** 0.5 == pytest.approx(
        model["overall"]["rmse_f"]
    )


def test_the_worst_frames_are_listed_and_written(tested):
    _, run = tested
    (model,) = report_of(run)["models"]
    frames = read(run.files / "worst.extxyz", index=":")
    assert len(frames) == len(model["worst"]) <= 6
    by_force = [row["force_rmse"] for row in model["worst"] if "force" in row["by"]]
    assert by_force == sorted(by_force, reverse=True)
    assert len(by_force) == 3
    every = [row["frame/rmse_f"] for row in metrics_of(run).values()]
    assert by_force == sorted(every, reverse=True)[:3]
    for row, atoms in zip(model["worst"], frames, strict=True):
        assert (atoms.info["system"], atoms.info["frame"], len(atoms)) == (row["system"], row["frame"], row["atoms"])
        error = np.linalg.norm(atoms.arrays["forces_model"] - atoms.get_forces(), axis=1)
        assert (error.argmax(), atoms.symbols[error.argmax()]) == (row["atom"], row["element"])
        assert error.max() == pytest.approx(row["largest_force_error"], rel=1e-6)


def test_plots_are_small_and_count_everything(tested):
    _, run = tested
    (model,) = json.loads((run.files / "plots.json").read_text())["models"]
    counts = (13, 3 * (7 * 8 + 5 * 4 + 4), 9 * 13)
    for found, count in zip(model["plots"], counts, strict=True):
        assert (found["count"], found["not_finite"]) == (count, 0)
        assert sum(point[2] for point in found["points"]) == count
        assert sum(found["histogram"]["counts"]) == count


def test_several_models_are_tested_side_by_side(task, checkpoints, tested):
    config = {**DEFAULTS, "data": ["dataset:cu@1/small", "dataset:cu@1/single"], "numb_test": 2, "detail": False}
    result, run = task("test", checkpoints, 3, config=config)
    assert result.outcome == "completed", result
    first, second = report_of(run)["models"]
    assert [row["frames"] for row in first["systems"]] == [2, 1]
    assert first["overall"] != second["overall"]
    rows = metrics_of(run)
    assert rows[3]["test/rmse_f/job:1@1"] == pytest.approx(second["overall"]["rmse_f"])
    names = {path.name for path in run.files.iterdir()}
    assert names == {"test.json", "plots.json", "worst-1.extxyz", "worst-2.extxyz"}


def test_a_stop_leaves_nothing_and_bad_data_say_which(task, checkpoints, data_root):
    config = {**DEFAULTS, "data": ["dataset:cu@1/small"]}
    result, run = task("test", checkpoints[:1], 5, config=config, stop="now")
    assert (result.outcome, list(run.files.iterdir())) == ("stopped", [])
    result, _ = task("test", checkpoints[:1], 5, config={**config, "data": ["dataset:cu@1/ice"]})
    assert (result.cause.failure, "cu@1/ice is not on this worker" in result.cause.message) == ("data", True)
