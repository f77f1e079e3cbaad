"""Names: of checkpoint files, and of things derived from data that later trainings can use again."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from app.engines.deepmd.seeds import STATISTICS
from app.engines.documents import canonical
from app.engines.seeds import DATA_ORDER_RULE
from app.wire.datasets import DatasetRef

Json = Any

_WITHOUT_INFLUENCE = frozenset(
    {
        "seed", "trainable", "neuron", "axis_neuron", "activation_function", "resnet_dt", "type_one_side", "attn",
        "attn_layer", "attn_dotr", "nlayers", "info", "model_branch_alias", "trainable_ln", "ln_eps",
    }
)  # fmt: skip
"""Keys of a model that neither data statistics nor neighbour statistics look at. Every other key counts."""

_SAMPLING = ("systems", "batch_size", "min_pair_dist")
"""Keys of `training_data` that decide which frames are looked at."""


def file_stem(job_name: str, config: Mapping[str, Json], seed: int, digest: str) -> str:
    """Return `NAME-KIND-sSEED-DIGEST`, at most 120 characters, safe as a file name."""
    name = re.sub(r"[^A-Za-z0-9._]+", "-", job_name).strip("-._")[:60].rstrip("-._") or "job"
    return f"{name}-{_kind(config)}-s{seed}-{digest[:6]}"


def _kind(config: Mapping[str, Json]) -> str:
    model = config["model"]
    if "model_dict" in model:
        return f"{len(model['model_dict'])}tasks"
    return str(model["descriptor"]["type"])


def artifact_keys(config: Mapping[str, Json], dataset_digests: Mapping[str, str]) -> dict[str, str]:
    """Return the key of `statistics` (of descriptors, fitting nets and energies) and of `neighbours`.

    Neighbour statistics decide `sel: "auto"` and hold the smallest distance of two atoms. Both depend on the training
    data only: not on validation data, loss, optimizer, learning rate or any seed of the job.
    """
    common = {
        "library": f"deepmd-kit {version('deepmd-kit')}",
        "data": [_sampled(section, dataset_digests) for section in _sections(config)],
    }
    statistics = {**common, "model": _relevant(config["model"]), "seed": STATISTICS, "order": DATA_ORDER_RULE}
    statistics["model_prob"] = config["training"].get("model_prob")
    return {
        "statistics": _digest({"kind": "statistics", **statistics}),
        "neighbours": _digest({"kind": "neighbours", **common, "model": _neighbourhoods(config["model"])}),
    }


def _sections(config: Mapping[str, Json]) -> Iterator[tuple[str, Mapping[str, Json]]]:
    training = config["training"]
    if "data_dict" not in training:
        yield "", training["training_data"]
        return
    for task in config["model"]["model_dict"]:
        yield task, training["data_dict"][task]["training_data"]


def _sampled(section: tuple[str, Mapping[str, Json]], digests: Mapping[str, str]) -> Json:
    """Return what a task's training data are, by content: the name of a dataset does not matter, its order does."""
    task, data = section
    systems = []
    for text in data["systems"]:
        ref = DatasetRef.parse(text)
        assert ref is not None, f"{text} is no resolved reference"
        systems.append([digests[f"{ref.name}@{ref.version}"], ref.system])
    return [task, {**{key: data.get(key) for key in _SAMPLING}, "systems": systems}]


def _relevant(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: _relevant(member) for key, member in value.items() if key not in _WITHOUT_INFLUENCE}
    return [_relevant(item) for item in value] if isinstance(value, list) else value


def _neighbourhoods(value: Json) -> Json:
    """Return cutoffs, selections and types of a model, in the shape in which they stand in it."""
    if isinstance(value, list):
        return [_neighbourhoods(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    kept = {}
    for key, member in value.items():
        is_own = key in ("type", "type_map", "descriptor") or key.endswith(("rcut", "sel"))
        if is_own or isinstance(member, Mapping) or (isinstance(member, list) and key == "list"):
            inner = _neighbourhoods(member)
            if inner != {}:
                kept[key] = inner
    return kept


def _digest(value: Json) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()
