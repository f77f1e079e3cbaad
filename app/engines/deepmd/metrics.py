"""Which metrics a DeePMD training measures, as far as its resolved config tells."""

from collections.abc import Iterator, Mapping
from typing import Any

from app.wire.metrics import MetricWords

Json = Any

WORDS = {
    "rmse_e": MetricWords(title="Energy RMSE", unit="eV/atom", short="E"),
    "rmse_f": MetricWords(title="Force RMSE", unit="eV/Å", short="F"),
    "rmse_v": MetricWords(title="Virial RMSE", unit="eV/atom", short="V"),
    "rmse_ae": MetricWords(title="Atomic energy RMSE", unit="eV"),
    "rmse_pf": MetricWords(title="Weighted force RMSE", unit="eV/Å"),
    "rmse_gf": MetricWords(title="Generalised force RMSE"),
    "mae_e": MetricWords(title="Energy MAE", unit="eV/atom", short="E MAE"),
    "mae_f": MetricWords(title="Force MAE", unit="eV/Å", short="F MAE"),
    "mae_v": MetricWords(title="Virial MAE", unit="eV/atom"),
    "rmse": MetricWords(title="Square root of the loss"),
    "devi/f": MetricWords(title="Force deviation", unit="eV/Å"),
    "devi/v": MetricWords(title="Virial deviation", unit="eV/atom"),
    "devi/e": MetricWords(title="Energy deviation", unit="eV/atom"),
    "energy_per_atom": MetricWords(title="Energy per atom", unit="eV", short="E", scale="linear"),
    "fmax": MetricWords(title="Largest force", unit="eV/Å", short="F max"),
    "run": MetricWords(title="Run that goes on", short="Run", charted=False),
    "time": MetricWords(title="How often it was done, this time included", short="Times done", charted=False),
    "energy_difference": MetricWords(
        title="Energy, frozen against checkpoint", unit="eV", short="Energy apart", scale="linear"
    ),
    "force_difference": MetricWords(
        title="Forces, frozen against checkpoint", unit="eV/Å", short="Forces apart", scale="linear"
    ),
    "tensors": MetricWords(title="Tensors that are equal", short="Equal tensors", charted=False),
}
"""Of a training, of a frozen model, and of the models of an ensemble, frame by frame: `devi/max_f` is the largest of a frame's atoms."""

_TERMS = {
    "rmse_e": ("start_pref_e", "limit_pref_e"),
    "rmse_f": ("start_pref_f", "limit_pref_f"),
    "rmse_v": ("start_pref_v", "limit_pref_v"),
    "rmse_ae": ("start_pref_ae", "limit_pref_ae"),
    "rmse_pf": ("start_pref_pf", "limit_pref_pf"),
    "rmse_gf": ("start_pref_gf", "limit_pref_gf"),
    "rmse_h": ("start_pref_h", "limit_pref_h"),
}
"""By term of the energy loss (DeePMD-kit 3.2.0, `pt/loss/ener.py`): it is measured when a prefactor is not zero."""


def keys(config: Mapping[str, Json]) -> frozenset[str] | None:
    """Return every metric that a training of a resolved config may measure; None: its loss is none that is known here.

    What the data have no labels for is not measured all the same: that is not looked at.
    """
    found = {"lr", "train/loss", "train/grad_norm", "perf/step_s"}
    for suffix, loss, validates in _tasks(config):
        if loss.get("type", "ener") != "ener":
            return None
        groups = ("train", "val") if validates else ("train",)
        found |= {f"{group}/{name}{suffix}" for group in groups for name in ("loss", *_measured(loss))}
    return frozenset(found)


def _tasks(config: Mapping[str, Json]) -> Iterator[tuple[str, Mapping[str, Json], bool]]:
    """Yield the ending of its keys, its loss and whether it is validated, of every task."""
    training = config["training"]
    tasks = training.get("data_dict")
    if tasks is None:
        yield "", config.get("loss", {}), bool(training.get("validation_data"))
        return
    for name, data in tasks.items():
        yield f"/{name}", config["loss_dict"][name], bool(data.get("validation_data"))


def _measured(loss: Mapping[str, Json]) -> Iterator[str]:
    yield "rmse"
    names = [name for name, prefactors in _TERMS.items() if any(loss.get(key) for key in prefactors)]
    yield from names
    if loss.get("loss_func") == "mae":
        yield from (name.replace("rmse", "mae") for name in names)
