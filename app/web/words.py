"""What metrics, states, failures and origins are called on the pages."""

from collections.abc import Iterable

from app.engines import registry
from app.wire.jobs import JobView
from app.wire.metrics import MetricWords, name_of, panel_of

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
    "sliced": "The first rows of the base's",
    "padded": "The base's rows, and new ones from the new model's own seed",
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

AUDIT_WORDS = {
    "own-seed": "Decided by its own seed, and by nothing else",
    "no-weights": "Has no weights that a seed could decide",
    "from-base": "All its weights come from the base",
}

DECISION_WORDS = {
    "scratch": "Trained from its start",
    "resume": "Goes on from a checkpoint",
    "reuse": "The one that is here is the answer",
    "refused": "Refused",
}

MODEL_STATE_WORDS = {
    "inspecting": "A worker looks into the file",
    "ready": "Jobs can start from it",
    "refused": "The file is not what it should be",
}


def kind(job: JobView) -> str:
    """Return what a job of this kind is called; the kind itself when its engine is gone."""
    task = registry.task(job.engine, job.kind)
    return task.title if task else {"train": "Training"}.get(job.kind, job.kind)


DATA_GROUPS = ("train", "val", "test")
"""The first parts of keys that say on which data a metric is measured."""

_METRICS = {
    "loss": MetricWords(title="Loss"),
    "lr": MetricWords(title="Learning rate"),
    "grad_norm": MetricWords(title="Gradient norm"),
    "perf/step_s": MetricWords(title="Time per step", unit="s"),
    "perf/data_s": MetricWords(title="Data time per step", unit="s"),
}
"""By panel, of trainings of any engine; the engines know the others."""


def _known(engine: str) -> dict[str, MetricWords]:
    """Return words by panel, in the order in which people look for them."""
    found = registry.get(engine)
    own = found.metric_words if found else {}
    return {"loss": _METRICS["loss"], **own, **_METRICS, **own}


def _deviating(key: str) -> tuple[str, str]:
    """Return which one and of what: `devi/max_f` is max, f; of `devi/e` there is one."""
    which, _, quantity = name_of(key).rpartition("_")
    return which, quantity


def panels(engine: str, keys: Iterable[str]) -> dict[str, dict[str, str | bool]]:
    """Return title, unit, scale and whether it has a chart by panel, for these metrics and all known ones: one may appear while a page is open.

    In the order in which the panels belong.
    """
    described = _known(engine)
    described |= {panel: described.get(panel) or _unknown(key) for key in keys for panel in [panel_of(key)]}
    shown = {"title", "unit", "scale", "charted"}
    return {panel: known.model_dump(include=shown) for panel, known in described.items()}


def _unknown(key: str) -> MetricWords:
    return MetricWords(title=_deviating(key)[1] if key.startswith("devi/") else name_of(key))


def describe(engine: str, key: str) -> MetricWords:
    """Return title and unit of a metric; an unknown one is called what it is called."""
    known = _known(engine).get(panel_of(key)) or _unknown(key)
    which = _deviating(key)[0] if key.startswith("devi/") else ""
    return known.model_copy(update={"title": f"{known.title} {which}".strip()})


def column_title(engine: str, key: str) -> str:
    """Return a metric's heading in a narrow column: `F val` for `val/rmse_f`, `F max ice` for `relax/fmax/ice`."""
    known = describe(engine, key)
    if key.startswith("devi/"):
        return known.title
    group, _, rest = key.partition("/")
    data = group if group in DATA_GROUPS else ""
    return " ".join(filter(None, (known.short or known.title, data, *rest.split("/")[1:])))
