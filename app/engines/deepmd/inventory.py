"""What a worker needs to know to list the tensors of a DeePMD model."""

from collections.abc import Mapping
from typing import Any

Json = Any

_WITHOUT_SHAPE = frozenset(
    {
        "seed", "trainable", "trainable_ln", "info", "finetune_head", "model_branch_alias", "preset_out_bias", "rcond",
        "data_stat_nbatch", "data_stat_protect", "data_bias_nsample",
    }
)  # fmt: skip
"""Keys of a model section that neither names nor shapes of its tensors depend on."""


def order(config: Mapping[str, Json]) -> dict[str, Json]:
    """Return the model section of a resolved config, without what no tensor depends on."""
    model = _shaping(config["model"])
    for names in ("model_dict", "shared_dict"):
        if names in config["model"]:
            model[names] = {name: _shaping(part) for name, part in config["model"][names].items()}
    return {"model": model}


def _shaping(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: _shaping(member) for key, member in value.items() if key not in _WITHOUT_SHAPE}
    return [_shaping(item) for item in value] if isinstance(value, list) else value
