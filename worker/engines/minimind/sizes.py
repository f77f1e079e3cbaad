"""The model section that a plain state dict belongs to: sizes as its tensors have them, all else as MiniMind had it."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from app.engines.minimind.keys import MODEL_DEFAULTS
from app.engines.minimind.model import EMBEDDING
from app.wire.problems import Notice
from worker.engines.base import RefusedFile
from worker.tensors import listed

Json = Any
Tensors = Mapping[str, torch.Tensor]

_FIRST = "model.layers.0."
_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_NAMED = re.compile(r"(?P<weights>[a-z_]+)_(?P<hidden>\d+)(?P<moe>_moe)?(_resume)?\.pth")
_STAGES = {"pretrain": "pretraining", "full_sft": "supervised fine-tuning"}
_HEADS = 8
_OLDER = {"rms_norm_eps": 1e-5}
"""What MiniMind's models without norms of queries and keys had otherwise (MiniMind2, until March 2026)."""


def infer(tensors: Tensors, file_name: str) -> tuple[dict[str, Json], list[Notice]]:
    """Return the model section of MiniMind's tensors, and what had to be assumed.

    Raises:
        RefusedFile: They are not those of a model that this engine knows.
    """
    _refuse_strangers(tensors)
    section = dict(MODEL_DEFAULTS)
    section["vocab_size"], section["hidden_size"] = tensors[EMBEDDING].shape
    section["num_hidden_layers"] = 1 + max(int(match[1]) for name in tensors if (match := _LAYER.match(name)))
    section |= _attention(tensors) | _feed_forward(tensors)
    notices = [_assumed(section)]
    notices += _compare_name(section, file_name)
    return section, notices


def _refuse_strangers(tensors: Tensors) -> None:
    if any("shared_experts" in name for name in tensors):
        message = (
            "The file is a mixture with shared experts, as MiniMind had it until March 2026: no model here has those."
        )
        raise RefusedFile(message, "Start from a dense model, or from a mixture of today's MiniMind.")
    needed = (EMBEDDING, f"{_FIRST}self_attn.q_proj.weight", f"{_FIRST}self_attn.k_proj.weight")
    missing = [name for name in needed if name not in tensors or tensors[name].dim() != 2]
    if missing:
        message = (
            f"The file's tensors ({listed(tensors) or 'none'}) are not MiniMind's: there is no matrix {missing[0]}."
        )
        raise RefusedFile(
            message, "Upload weights of MiniMind 2 or later, or a Hugging Face directory as a tar or zip file."
        )


def _attention(tensors: Tensors) -> dict[str, Json]:
    queries, keys = (tensors[f"{_FIRST}self_attn.{part}_proj.weight"].shape[0] for part in "qk")
    norm = tensors.get(f"{_FIRST}self_attn.q_norm.weight")
    head = norm.shape[0] if norm is not None and norm.dim() == 1 else queries // _HEADS
    if not head or queries % head or keys % head:
        message = f"Queries of {queries} and keys of {keys} rows are not made of whole heads of {head}."
        raise RefusedFile(message, "Upload a Hugging Face directory instead: its config.json names the heads.")
    found = {"head_dim": head, "num_attention_heads": queries // head, "num_key_value_heads": keys // head}
    return {"family": "qwen3", **found} if norm is not None else {"family": "llama", **found, **_OLDER}


def _feed_forward(tensors: Tensors) -> dict[str, Json]:
    router = tensors.get(f"{_FIRST}mlp.gate.weight")
    inside = "mlp" if router is None else "mlp.experts.0"
    gate = tensors.get(f"{_FIRST}{inside}.gate_proj.weight")
    if gate is None:
        raise RefusedFile(f"The file has no tensor {_FIRST}{inside}.gate_proj.weight.", "Is it a whole model?")
    sizes = {"intermediate_size": gate.shape[0], "moe_intermediate_size": gate.shape[0]}
    return {"use_moe": router is not None, **({"num_experts": router.shape[0]} if router is not None else {}), **sizes}


def _assumed(section: Mapping[str, Json]) -> Notice:
    keys = ["rope_theta", "rms_norm_eps", "hidden_act", "max_position_embeddings"]
    keys += ["num_attention_heads", "num_key_value_heads", "head_dim"] if section["family"] == "llama" else []
    keys += ["num_experts_per_tok", "norm_topk_prob"] if section["use_moe"] else []
    values = ", ".join(f"{key} = {section[key]}" for key in keys)
    message = f"Sizes are read off the tensors; what those do not tell is taken to be as in MiniMind: {values}."
    return Notice(
        code="assumed", message=message, hint="Write a key into the config's model section where it was another."
    )


def _compare_name(section: Mapping[str, Json], file_name: str) -> Iterable[Notice]:
    """Compare with MiniMind's names of files: `pretrain_512.pth`, `full_sft_768_moe.pth`."""
    match = _NAMED.fullmatch(file_name)
    if match is None:
        return
    if (int(match["hidden"]), bool(match["moe"])) != (section["hidden_size"], section["use_moe"]):
        held = f"{'a mixture of experts' if section['use_moe'] else 'a dense model'} of width {section['hidden_size']}"
        yield Notice(code="name-differs", message=f"The file is named {file_name}, but holds {held}.", hint=None)
    elif stage := _STAGES.get(match["weights"]):
        yield Notice(code="stage", message=f"By its name the file comes from {stage}.", hint=None)
