"""Checks of a complete config: sizes that do not fit each other, and values that cannot take effect."""

from typing import Any

from app.engines.draft import Draft, Path
from app.engines.minimind.model import derived_head_dim, derived_intermediate_size

Json = Any

_OF_EXPERTS = (
    "num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob", "router_aux_loss_coef",
)  # fmt: skip


def settle_sizes(draft: Draft) -> None:
    """Fill in the sizes that follow from others, and refuse where they do not."""
    hidden, heads = draft.get("model", "hidden_size"), draft.get("model", "num_attention_heads")
    if draft.get("model", "head_dim") is None:
        if hidden % heads:
            message = f"does not fit: hidden_size {hidden} is no multiple of num_attention_heads {heads}"
            path = _given(draft, "hidden_size", "num_attention_heads")
            draft.refuse("contradiction", path, message, "Make it one, or give head_dim, the width of a head.")
            return
        note = f"hidden_size {hidden} / num_attention_heads {heads}"
        draft.put(("model", "head_dim"), derived_head_dim(hidden, heads), "derived", note=note)
    if draft.get("model", "intermediate_size") is None:
        note = f"hidden_size {hidden} times pi, rounded up to a multiple of 64"
        draft.put(("model", "intermediate_size"), derived_intermediate_size(hidden), "derived", note=note)
    if draft.get("model", "moe_intermediate_size") is None:
        inner = draft.get("model", "intermediate_size")
        draft.put(("model", "moe_intermediate_size"), inner, "derived", note="as intermediate_size")


def _given(draft: Draft, *keys: str) -> Path:
    """Return the place of the first of these keys of the model that was submitted, or of the first of all."""
    return ("model", next((key for key in keys if draft.source("model", key)), keys[0]))


def check_model(draft: Draft) -> None:
    """Refuse models that cannot be built, or not as it is written."""
    heads, groups = draft.get("model", "num_attention_heads"), draft.get("model", "num_key_value_heads")
    if heads % groups:
        message = f"does not fit: num_attention_heads {heads} is no multiple of num_key_value_heads {groups}"
        path = _given(draft, "num_key_value_heads", "num_attention_heads")
        draft.refuse("contradiction", path, message, "Heads share keys and values in groups of one size.")
    width = draft.get("model", "head_dim")
    if width is not None and width % 2:
        message = f"is {width}, but must be even: rotary positions turn pairs of numbers"
        draft.refuse("out-of-range", ("model", "head_dim"), message, f"Write {width + 1}.")
    if draft.get("model", "dropout"):
        message = "must be 0: the models of transformers, which are trained here, have no such dropout"
        draft.refuse("unsupported", ("model", "dropout"), message, "Remove it.")
    if draft.get("model", "use_moe"):
        _check_experts(draft)


def _check_experts(draft: Draft) -> None:
    if draft.get("model", "family") == "llama":
        message = "cannot be true in family llama: only qwen3 has mixtures of experts"
        draft.refuse("unsupported", _given(draft, "use_moe", "family"), message, 'Write "family": "qwen3".')
    experts, chosen = draft.get("model", "num_experts"), draft.get("model", "num_experts_per_tok")
    if chosen > experts:
        message = f"does not fit: {chosen} experts per token of {experts}"
        draft.refuse(
            "out-of-range", _given(draft, "num_experts_per_tok", "num_experts"), message, "At most all of them."
        )


def check_training(draft: Draft) -> None:
    """Refuse sequences that the model is not made for, and a warm-up that never ends."""
    longest, length = draft.get("model", "max_position_embeddings"), draft.get("training", "max_seq_len")
    if length > longest:
        message = f"is {length}, but model.max_position_embeddings is {longest}"
        draft.refuse("out-of-range", ("training", "max_seq_len"), message, "At most as long as the model is made for.")
    steps, warmup = draft.get("training", "max_steps"), draft.get("training", "warmup_steps")
    if steps is not None and warmup >= steps:
        message = f"is {warmup}, but there are only {steps} steps"
        draft.refuse("out-of-range", ("training", "warmup_steps"), message, "Warm up for less than the whole training.")


def mark_idle(draft: Draft) -> None:
    """Say which submitted values cannot take effect."""
    if draft.get("training", "max_steps") is not None:
        _idle(draft, ("training", "epochs"), "training.max_steps says how long the training is")
    if not draft.get("model", "use_moe"):
        for key in _OF_EXPERTS:
            _idle(draft, ("model", key), "model.use_moe is false")


def _idle(draft: Draft, path: Path, reason: str) -> None:
    if draft.source(*path) is not None:
        draft.ignore(path, reason)
        draft.warn("ignored", path, f"takes no effect: {reason}", "Remove it.")
