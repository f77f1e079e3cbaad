"""What metrics, states, failures and origins are called on the pages."""

from dataclasses import dataclass

STATES = ("running", "queued", "checking", "stopping", "paused", "completed", "failed", "cancelled")
"""In the order in which people look for them."""

STATE_WORDS = {
    "checking": "Waiting for a worker to list the model's tensors, so that the transfer plan can be made",
    "queued": "Waiting for a free worker",
    "running": "Training",
    "stopping": "Writing its last checkpoint",
    "paused": "Paused",
    "completed": "All steps done",
    "failed": "Ended by a failure",
    "cancelled": "Cancelled",
}

FAILURE_WORDS = {
    "configuration": "The configuration does not work",
    "data": "The data could not be used",
    "non-finite": "The training left the finite numbers",
    "out-of-memory": "Out of memory",
    "killed": "The trainer was killed",
    "host-lost": "The worker was lost",
    "disk-full": "A disk is full",
    "library": "The library stopped with an error",
    "protocol": "Worker and server did not understand each other",
}

ORIGIN_WORDS = {
    "explicit": "Written in the submitted config",
    "base": "Inherited from the base model",
    "default": "The engine's default",
    "migrated": "Written in an older spelling",
    "derived": "Computed from the data or from other values",
    "seed": "Derived from the root seed",
    "service": "Set by Cairn",
}

START_WORDS = {
    "scratch": "All weights come from seeds; nothing is inherited.",
    "init": "Weights and structure come from the base, output bias included; the training begins at step 0.",
    "finetune": "Weights and structure come from the base; then the output bias is refitted to the new data.",
    "resume": "A checkpoint of a job goes on where it stopped: weights, optimizer, schedule, order of the data.",
}

VERB_WORDS = {
    "copied": "As it is in the base",
    "remapped": "The same numbers in another order, or with rows for new types",
    "reinitialised": "From the new model's own seed",
    "refit": "Set by statistics of the new data",
    "unused": "Only the base has it",
}

VERDICT_WORDS = {
    "identical": "Every step and every fingerprint that both recorded is equal, bit for bit",
    "identical-so-far": "Equal, bit for bit, as far as both went",
    "diverged": "A metric or a fingerprint differs",
    "not-comparable": "No metric of the same step in both",
}

STAGE_WORDS = {
    "init": "Weights before the first step",
    "transfer": "Weights after those of the base came in",
    "statistics": "Statistics of the data",
    "checkpoint": "Weights of the checkpoint",
    "generators": "State of a random generator in the checkpoint",
}

MODEL_STATE_WORDS = {
    "inspecting": "A worker looks into the file",
    "ready": "Jobs can start from it",
    "refused": "The file is not what it should be",
}


@dataclass(frozen=True)
class MetricWords:
    """What a metric is called and measured in."""

    title: str
    unit: str = ""


_METRICS = {
    "loss": MetricWords("Loss"),
    "rmse": MetricWords("Square root of the loss"),
    "rmse_e": MetricWords("Energy RMSE", "eV/atom"),
    "rmse_f": MetricWords("Force RMSE", "eV/Å"),
    "rmse_v": MetricWords("Virial RMSE", "eV/atom"),
    "rmse_ae": MetricWords("Atomic energy RMSE", "eV"),
    "rmse_pf": MetricWords("Weighted force RMSE", "eV/Å"),
    "rmse_gf": MetricWords("Generalised force RMSE"),
    "mae_e": MetricWords("Energy MAE", "eV/atom"),
    "mae_f": MetricWords("Force MAE", "eV/Å"),
    "mae_v": MetricWords("Virial MAE", "eV/atom"),
    "lr": MetricWords("Learning rate"),
    "grad_norm": MetricWords("Gradient norm"),
    "perplexity": MetricWords("Perplexity"),
    "step_s": MetricWords("Time per step", "s"),
    "data_s": MetricWords("Data time per step", "s"),
}

KNOWN_METRICS = (*(name if name == "lr" else f"train/{name}" for name in _METRICS), "perf/step_s", "perf/data_s")
"""One key of every metric there are words for."""

_SHORT = {"rmse_e": "E", "rmse_f": "F", "rmse_v": "V", "mae_e": "E MAE", "mae_f": "F MAE"}


def name_of(key: str) -> str:
    """Return a metric's own name: `train/rmse_f/water` is `rmse_f`."""
    parts = key.split("/")
    return parts[1] if len(parts) > 1 else key


def panel_of(key: str) -> str:
    """Return the chart a metric belongs to, by the rule of `charts/series.ts`."""
    return f"perf/{name_of(key)}" if key.startswith("perf/") else name_of(key)


def describe(key: str) -> MetricWords:
    """Return title and unit of a metric; an unknown one is called what it is called."""
    name = name_of(key)
    return _METRICS.get(name, MetricWords(name))


def column_title(key: str) -> str:
    """Return a metric's heading in a narrow column: `F val` for `val/rmse_f`."""
    name = name_of(key)
    group = key.split("/")[0] if "/" in key else ""
    short = _SHORT.get(name, describe(key).title if name in _METRICS else name)
    return f"{short} {group}".strip()
