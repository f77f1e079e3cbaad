"""Which metrics a DeePMD training measures, as far as its resolved config tells."""

from collections.abc import Iterator, Mapping
from typing import Any

Json = Any

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
