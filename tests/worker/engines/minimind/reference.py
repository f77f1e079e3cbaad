"""MiniMind's forward pass written down once more, plainly and slowly, to compare with."""

import math

import torch


def norm(x, weight, eps):
    return weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)


def rotated(x, theta):
    """Turn pairs (i, i + half) of each head (tokens × heads × width) by angles that grow with the position."""
    tokens, _, width = x.shape
    half = width // 2
    out = torch.empty_like(x)
    for place in range(tokens):
        for i in range(half):
            angle = place / theta ** (2 * i / width)
            a, b = x[place, :, i], x[place, :, i + half]
            out[place, :, i] = a * math.cos(angle) - b * math.sin(angle)
            out[place, :, i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


def attention(x, w, at, section):
    heads, groups, width = section["num_attention_heads"], section["num_key_value_heads"], section["head_dim"]
    q = (x @ w[f"{at}.q_proj.weight"].T).view(-1, heads, width)
    k = (x @ w[f"{at}.k_proj.weight"].T).view(-1, groups, width)
    v = (x @ w[f"{at}.v_proj.weight"].T).view(-1, groups, width)
    if section["family"] == "qwen3":
        q = norm(q, w[f"{at}.q_norm.weight"], section["rms_norm_eps"])
        k = norm(k, w[f"{at}.k_norm.weight"], section["rms_norm_eps"])
    q, k = rotated(q, section["rope_theta"]), rotated(k, section["rope_theta"])
    out = torch.zeros_like(q)
    for token in range(len(x)):
        for head in range(heads):
            group = head // (heads // groups)
            scores = torch.softmax(k[: token + 1, group] @ q[token, head] / math.sqrt(width), dim=0)
            out[token, head] = scores @ v[: token + 1, group]
    return out.reshape(len(x), heads * width) @ w[f"{at}.o_proj.weight"].T


def gated(x, w, at):
    gate = x @ w[f"{at}.gate_proj.weight"].T
    return (gate * torch.sigmoid(gate) * (x @ w[f"{at}.up_proj.weight"].T)) @ w[f"{at}.down_proj.weight"].T


def mixture(x, w, at, section):
    """Return what the chosen experts say of each token, and the loss that balances them."""
    count, chosen = section["num_experts"], section["num_experts_per_tok"]
    scores = torch.softmax(x @ w[f"{at}.gate.weight"].T, dim=-1)
    out, uses = torch.zeros_like(x), torch.zeros(count)
    for token in range(len(x)):
        best = scores[token].argsort(descending=True)[:chosen]
        shares = scores[token, best]
        if section["norm_topk_prob"]:
            shares = shares / shares.sum()
        for share, expert in zip(shares, best.tolist(), strict=True):
            out[token] += share * gated(x[token], w, f"{at}.experts.{expert}")
            uses[expert] += 1
    aux = count * ((uses / len(x)) * scores.mean(0)).sum() * section["router_aux_loss_coef"]
    return out, aux


def forward(tokens, w, section):
    """Return logits (tokens × vocabulary) of one document, and the summed auxiliary loss."""
    eps, aux = section["rms_norm_eps"], torch.zeros(())
    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(section["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        x = x + attention(norm(x, w[f"{at}.input_layernorm.weight"], eps), w, f"{at}.self_attn", section)
        inner = norm(x, w[f"{at}.post_attention_layernorm.weight"], eps)
        if section["use_moe"]:
            said, balance = mixture(inner, w, f"{at}.mlp", section)
            aux = aux + balance
        else:
            said = gated(inner, w, f"{at}.mlp")
        x = x + said
    return norm(x, w["model.norm.weight"], eps) @ w["lm_head.weight"].T, aux
