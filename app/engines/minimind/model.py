"""What follows from the numbers of a MiniMind model section: sizes that were left out, tensors with shapes and names."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = Any
Model = Mapping[str, Json]
Axis = tuple[str, ...]
"""Keys of the model section whose product is the length of one axis."""

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
"""Tied to the embedding (`tie_word_embeddings`) it is another name of the same memory."""
NORM = "model.norm.weight"

_WIDTH: Axis = ("hidden_size",)
_QUERIES: Axis = ("num_attention_heads", "head_dim")
_KEYS: Axis = ("num_key_value_heads", "head_dim")

_OUTSIDE: Mapping[str, tuple[Axis, ...]] = {
    EMBEDDING: (("vocab_size",), _WIDTH),
    NORM: (_WIDTH,),
    HEAD: (("vocab_size",), _WIDTH),
}
_ATTENTION: Mapping[str, tuple[Axis, ...]] = {
    "input_layernorm.weight": (_WIDTH,),
    "self_attn.q_proj.weight": (_QUERIES, _WIDTH),
    "self_attn.k_proj.weight": (_KEYS, _WIDTH),
    "self_attn.v_proj.weight": (_KEYS, _WIDTH),
    "self_attn.o_proj.weight": (_WIDTH, _QUERIES),
}
_HEAD_NORMS: Mapping[str, tuple[Axis, ...]] = {
    "self_attn.q_norm.weight": (("head_dim",),),
    "self_attn.k_norm.weight": (("head_dim",),),
}
_ROUTER = "mlp.gate.weight"
_AFTER: Mapping[str, tuple[Axis, ...]] = {"post_attention_layernorm.weight": (_WIDTH,)}

_LAYER = re.compile(r"model\.layers\.(?P<layer>\d+)\.(?P<leaf>.+)")
_EXPERT = re.compile(r"mlp\.experts\.(?P<expert>\d+)\.(?P<leaf>.+)")


def derived_head_dim(hidden_size: int, num_attention_heads: int) -> int:
    """Return the width of a head when none is given."""
    return hidden_size // num_attention_heads


def derived_intermediate_size(hidden_size: int) -> int:
    """Return the width of feed-forward layers when none is given: pi times the model's, a multiple of 64."""
    return math.ceil(hidden_size * math.pi / 64) * 64


def completed(model: Model) -> dict[str, Json]:
    """Return a model section with the sizes filled in that were left out or are null."""
    full = dict(model)
    if full.get("head_dim") is None:
        full["head_dim"] = derived_head_dim(full["hidden_size"], full["num_attention_heads"])
    if full.get("intermediate_size") is None:
        full["intermediate_size"] = derived_intermediate_size(full["hidden_size"])
    if full.get("moe_intermediate_size") is None:
        full["moe_intermediate_size"] = full["intermediate_size"]
    return full


@dataclass(frozen=True)
class Place:
    """A tensor's name, taken apart."""

    leaf: str
    """Without layer and expert: `self_attn.q_proj.weight`, `gate_proj.weight`; outside the layers the whole name."""
    layer: int | None = None
    expert: int | None = None

    @classmethod
    def parse(cls, name: str) -> "Place":
        """Take a name apart; any text is one."""
        match = _LAYER.fullmatch(name)
        if match is None:
            return cls(name)
        layer, leaf = int(match["layer"]), match["leaf"]
        inner = _EXPERT.fullmatch(leaf)
        return cls(inner["leaf"], layer, int(inner["expert"])) if inner else cls(leaf, layer)

    @property
    def component(self) -> str:
        """The part of the model: `embedding`, `attention 3`, `feed-forward 3`, `head` or `norm`."""
        if self.layer is None:
            return {EMBEDDING: "embedding", NORM: "norm", HEAD: "head"}.get(self.leaf, "other")
        is_attention = self.expert is None and self.leaf.startswith(("self_attn.", "input_layernorm."))
        return f"{'attention' if is_attention else 'feed-forward'} {self.layer}"


def is_norm(name: str) -> bool:
    """Return whether a tensor scales a norm: it begins with ones, every other with draws."""
    return name.endswith("norm.weight")


def axes(model: Model) -> Iterator[tuple[str, tuple[Axis, ...]]]:
    """Yield the name of every tensor of a complete model section, with what each of its axes depends on.

    In the order of the layers; the head last, whether or not it is tied to the embedding.
    """
    yield EMBEDDING, _OUTSIDE[EMBEDDING]
    attention = dict(_ATTENTION) | (dict(_HEAD_NORMS) if model["family"] == "qwen3" else {})
    for layer in range(model["num_hidden_layers"]):
        members = {**attention, **_AFTER, **dict(_feed_forward(model))}
        yield from ((f"model.layers.{layer}.{leaf}", shape) for leaf, shape in members.items())
    yield NORM, _OUTSIDE[NORM]
    yield HEAD, _OUTSIDE[HEAD]


def _feed_forward(model: Model) -> Iterator[tuple[str, tuple[Axis, ...]]]:
    if not model["use_moe"]:
        yield from _projections("mlp.", ("intermediate_size",))
        return
    yield _ROUTER, (("num_experts",), _WIDTH)
    for expert in range(model["num_experts"]):
        yield from _projections(f"mlp.experts.{expert}.", ("moe_intermediate_size",))


def _projections(at: str, inner: Axis) -> Iterator[tuple[str, tuple[Axis, ...]]]:
    yield f"{at}gate_proj.weight", (inner, _WIDTH)
    yield f"{at}up_proj.weight", (inner, _WIDTH)
    yield f"{at}down_proj.weight", (_WIDTH, inner)


def shapes(model: Model) -> dict[str, list[int]]:
    """Return the shape of every tensor of a complete model section by name, in the order of `axes`."""
    return {name: [math.prod(model[key] for key in axis) for axis in found] for name, found in axes(model)}
