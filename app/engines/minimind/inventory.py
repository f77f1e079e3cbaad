"""What a worker needs to know to list the tensors of a MiniMind model."""

from collections.abc import Mapping
from typing import Any

Json = Any

_SHAPING = (
    "family", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "vocab_size", "tie_word_embeddings", "use_moe",
)  # fmt: skip
_DENSE, _OF_EXPERTS = ("intermediate_size",), ("num_experts", "moe_intermediate_size")


def order(config: Mapping[str, Json]) -> dict[str, Json]:
    """Return what of a resolved config's model section names and shapes of tensors depend on."""
    model = config["model"]
    keys = [*_SHAPING, *(_OF_EXPERTS if model["use_moe"] else _DENSE)]
    return {"model": {key: model[key] for key in keys}}
