"""MiniMind's models, built of the classes that transformers has for the same architectures."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.models.llama import LlamaConfig, LlamaForCausalLM
from transformers.models.qwen3 import Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3_moe import Qwen3MoeConfig, Qwen3MoeForCausalLM

from app.engines.minimind.model import is_norm
from app.engines.minimind.seeds import of_tensor
from worker.engines.minimind import names

Json = Any
Section = Mapping[str, Json]
"""The model section of a resolved config."""

BOS, EOS = 1, 2
"""Ids of the first and the last token of a document, as MiniMind's tokenizer has them."""

_SHARED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim", "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps", "tie_word_embeddings",
)  # fmt: skip
_OF_EXPERTS = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob", "router_aux_loss_coef")


def configuration(section: Section) -> PreTrainedConfig:
    """Return a model section as transformers' own configuration.

    There is no padding token: transformers would exempt its embedding from training, which MiniMind trains.
    """
    shared = {key: section[key] for key in _SHARED}
    shared["rope_parameters"] = {"rope_type": "default", "rope_theta": float(section["rope_theta"])}
    shared |= {"attention_bias": False, "bos_token_id": BOS, "eos_token_id": EOS}
    if section["family"] == "llama":
        return LlamaConfig(**shared, mlp_bias=False)
    if not section["use_moe"]:
        return Qwen3Config(**shared, use_sliding_window=False)
    experts = {key: section[key] for key in _OF_EXPERTS}
    return Qwen3MoeConfig(**shared, **experts, use_sliding_window=False, decoder_sparse_step=1, mlp_only_layers=[])


def build(section: Section, device: torch.device | str = "cpu") -> PreTrainedModel:
    """Return the model of a section with the weights that its seed decides, in float32, on a device.

    Every tensor is drawn by itself, under MiniMind's name, on the CPU: another layer or a larger vocabulary moves none of
    the others, and every device begins with the same. No global generator is drawn from.
    """
    model = empty(section)
    draw(names.tensors(model), section)
    torch.nn.Module.to(model, torch.device(device))
    return model


def empty(section: Section, device: str = "cpu") -> PreTrainedModel:
    """Return the model of a section with weights that mean nothing; on `meta` it has names and shapes only."""
    with torch.device(device), no_init_weights():
        model = _class(section)(configuration(section))
    model.config._attn_implementation = "sdpa"
    # One expert after the other: the grouped products are not repeatable on every device.
    model.config._experts_implementation = "eager"
    model.tie_weights()
    return model


def _class(section: Section) -> type[PreTrainedModel]:
    if section["family"] == "llama":
        return LlamaForCausalLM
    return Qwen3MoeForCausalLM if section["use_moe"] else Qwen3ForCausalLM


@torch.no_grad()
def draw(tensors: Mapping[str, torch.Tensor], section: Section) -> None:
    """Fill tensors by name with what the section's seed decides: norms with ones, all else from a normal distribution."""
    for name, tensor in tensors.items():
        if is_norm(name):
            tensor.fill_(1.0)
        elif names.alias_of(name, section["tie_word_embeddings"]) is None:
            generator = torch.Generator().manual_seed(of_tensor(section["seed"], name))
            drawn = torch.empty(tensor.shape).normal_(0.0, section["initializer_range"], generator=generator)
            tensor.copy_(drawn)


def predict(model: PreTrainedModel, tokens: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Return the logits (rows × length × vocabulary) and, of a mixture of experts, the router's logits by layer.

    `positions` (rows × length) begin at 0 with every document: transformers keeps documents apart by them, since there is
    neither mask nor cache (masking_utils.py, `find_packed_sequence_indices`).
    """
    wanted: dict[str, Any] = {"output_router_logits": True} if _is_mixture(model) else {}
    found = model.model(input_ids=tokens, position_ids=positions, use_cache=False, **wanted)
    return model.lm_head(found.last_hidden_state), found.router_logits if wanted else None


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean loss over the tokens that count; `targets` (rows × length) is -100 where none does.

    Target t is what follows token t.
    """
    loss: torch.Tensor = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
    return loss


def balance(router_logits: tuple[torch.Tensor, ...], section: Section) -> torch.Tensor:
    """Return MiniMind's auxiliary loss of a mixture of experts: of each layer its own, summed.

    Source: `MOEFeedForward` of MiniMind's model_minimind.py. transformers' takes the mean over the layers instead.
    """
    count, chosen = section["num_experts"], section["num_experts_per_tok"]
    total = router_logits[0].new_zeros((), dtype=torch.float32)
    for logits in router_logits:
        scores = functional.softmax(logits.float(), dim=-1)
        picked = torch.topk(scores, chosen, dim=-1).indices
        load = functional.one_hot(picked, count).float().mean(0)
        total = total + (load * scores.mean(0)).sum() * count
    return total * float(section["router_aux_loss_coef"])


def _is_mixture(model: PreTrainedModel) -> bool:
    return isinstance(model, Qwen3MoeForCausalLM)
