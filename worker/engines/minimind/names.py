"""The tensors of a model under MiniMind's names, as views: what is written into one is in the model.

transformers holds the experts of a layer in two tensors, MiniMind's files hold three of each expert.
"""

import re
from collections.abc import Iterator

import torch
from transformers import PreTrainedModel

from app.engines.minimind.model import EMBEDDING, HEAD

_FUSED = re.compile(r"(?P<layer>model\.layers\.\d+\.mlp\.experts)\.(?P<part>gate_up_proj|down_proj)")


def tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return every tensor of a model by MiniMind's name; the head is there under its own, tied or not."""
    found = dict(_named(model))
    found.setdefault(HEAD, found[EMBEDDING])
    return found


def _named(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    for name, parameter in model.named_parameters():
        match = _FUSED.fullmatch(name)
        if match is None:
            yield name, parameter.detach()
        else:
            yield from _experts(match["layer"], match["part"], parameter.detach())


def _experts(layer: str, part: str, fused: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Split `gate_up_proj` (experts × 2 inner × width) and `down_proj` (experts × width × inner)."""
    for number, own in enumerate(fused.unbind(0)):
        if part == "down_proj":
            yield f"{layer}.{number}.down_proj.weight", own
        else:
            gate, up = own.chunk(2, dim=0)
            yield f"{layer}.{number}.gate_proj.weight", gate
            yield f"{layer}.{number}.up_proj.weight", up


def alias_of(name: str, is_tied: bool) -> str | None:
    """Return the name of the tensor whose memory `name` stands for; None: it has memory of its own."""
    return EMBEDDING if is_tied and name == HEAD else None
