"""Jobs of kind model-devi: the numbers and the file are those of `dp model-devi` on the same models and data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from deepmd.infer.model_devi import make_model_devi
from deepmd.pt.entrypoints.main import freeze

from tests.worker.engines.runs import metrics_of
from worker.engines.deepmd.deviation import COLUMNS

pytestmark = [
    pytest.mark.deepmd,
    pytest.mark.filterwarnings("ignore:`torch.jit"),  # DeePMD-kit's own way to freeze and to run what it froze
]

SYSTEMS = {"large": 7, "small": 5}
"""Frames of each system of the dataset cu@1, which is periodic."""
DEFAULTS = {"relative": None, "atomic": False, "frequency": 1, "stride": 1, "limit": None}


@pytest.fixture(scope="module")
def frozen(checkpoints, tmp_path_factory):
    """The same two, frozen by DeePMD-kit."""
    directory = tmp_path_factory.mktemp("frozen")
    for number, checkpoint in enumerate(checkpoints):
        freeze(str(checkpoint), str(directory / f"{number}.pth"))
    return [directory / f"{number}.pth" for number in range(len(checkpoints))]


@pytest.fixture
def evaluate(task):
    """Run a job in this process; return its result and its run directory."""

    def evaluate(models, frames, stop=None, **options):
        data = options.pop("data", [f"dataset:cu@1/{name}" for name in SYSTEMS])
        return task("model-devi", models, frames, stop=stop, config={**DEFAULTS, "data": data, **options})

    return evaluate


def stock(models, data_root, output: Path, **options):
    """Let DeePMD-kit write the same file; return it with the names of systems that a job writes."""
    for name in SYSTEMS:
        system = str(data_root / "cu@1" / name)
        make_model_devi(models=list(map(str, models)), system=system, output=str(output), **{"frequency": 1, **options})
    return output.read_text().replace(f"{data_root}/", "")


def columns_of(run):
    """Return the metrics of a run, a row per frame in the order of DeePMD-kit's columns."""
    found = metrics_of(run)
    assert list(found) == list(range(1, len(found) + 1))
    return np.array([[row[f"devi/{key}"] for key in COLUMNS] for row in found.values()])


def test_the_file_is_what_stock_writes_for_frozen_models(evaluate, frozen, data_root, tmp_path):
    result, run = evaluate(frozen, 12)
    assert (result.outcome, result.step) == ("completed", 12), result
    written = (run.files / "model_devi.out").read_text()
    assert written == stock(frozen, data_root, tmp_path / "stock.out")
    rows = np.loadtxt(run.files / "model_devi.out")
    assert rows[:, 0].tolist() == [*range(7), *range(5)]
    assert (rows[:, 1:] > 0).all(), "the data are periodic: virials differ, too"
    assert np.allclose(columns_of(run), rows[:, 1:], rtol=1e-6, atol=0), "metrics are the same numbers, unrounded"


def test_options_mean_what_they_mean_to_stock(evaluate, frozen, data_root, tmp_path):
    options = {"relative": 0.5, "atomic": True, "frequency": 10}
    _, run = evaluate(frozen, 12, **options)
    assert (run.files / "model_devi.out").read_text() == stock(frozen, data_root, tmp_path / "stock.out", **options)


def test_checkpoints_give_the_numbers_of_their_frozen_models_every_time(evaluate, checkpoints, frozen):
    (_, first), (_, again), (_, reference) = (evaluate(models, 12) for models in (checkpoints, checkpoints, frozen))
    assert np.array_equal(columns_of(first), columns_of(again)), "the same bits every time"
    assert np.allclose(columns_of(first), columns_of(reference), rtol=1e-9, atol=0)
    assert not first.events.exists(), "no warning: everything in the file has its place in the model"


def test_models_of_an_old_torch_or_inside_a_wrapper_are_read_like_others(evaluate, checkpoints, tmp_path):
    old, wrapped = tmp_path / "old.pt", tmp_path / "wrapped.pt"
    first, second = (torch.load(path, weights_only=True) for path in checkpoints)
    torch.save(first, old, _use_new_zipfile_serialization=False)
    torch.save({"model": {f"module.{name}": value for name, value in second["model"].items()}}, wrapped)
    result, run = evaluate([old, wrapped], 12)
    assert result.outcome == "completed", result
    assert np.array_equal(columns_of(run), columns_of(evaluate(checkpoints, 12)[1]))
    assert not run.events.exists(), "no warning: every tensor was found under the model's own name"


def test_frames_are_chosen_by_stride_and_limit(evaluate, checkpoints):
    _, everything = evaluate(checkpoints, 13, data=["dataset:cu@1"])
    options = {"stride": 2, "limit": 3, "data": ["dataset:cu@1"], "frequency": 100}
    result, run = evaluate(checkpoints, 5, **options)
    assert result.outcome == "failed", (
        "of every second frame large has 4, single 1, small 3: with the limit 3 + 1 + 3, not 5"
    )
    result, run = evaluate(checkpoints, 7, **options)
    assert result.outcome == "completed", result
    assert np.loadtxt(run.files / "model_devi.out")[:, 0].tolist() == [0, 200, 400, 0, 0, 200, 400]
    assert np.allclose(columns_of(run), columns_of(everything)[[0, 2, 4, 7, 8, 10, 12]], rtol=1e-9, atol=0)


def test_a_stop_leaves_no_file(evaluate, checkpoints):
    result, run = evaluate(checkpoints, 12, stop="now")
    assert (result.outcome, list(run.files.iterdir())) == ("stopped", [])


def test_models_of_other_elements_are_refused(evaluate, checkpoints, tmp_path):
    state = torch.load(checkpoints[0], weights_only=True)
    state["model"]["_extra_state"]["model_params"]["type_map"] = ["Au", "Cu"]
    other = tmp_path / "other.pt"
    torch.save(state, other)
    result, _ = evaluate([checkpoints[1], other], 12)
    assert (result.outcome, result.cause.failure) == ("failed", "configuration")
    assert "['Au', 'Cu']" in result.cause.message
