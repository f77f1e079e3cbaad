"""The plan itself: every tensor of the new model, and every one of the base, gets its verb."""

from collections.abc import Iterator, Mapping
from typing import Any

from app.engines.base import Base
from app.engines.documents import short
from app.engines.minimind.model import completed
from app.engines.minimind.transfer.fates import Fate, Pair
from app.engines.transfer.assembly import assembled
from app.engines.transfer.refusals import Words, is_accepted, refuse
from app.engines.transfer.sections import Section, submitted
from app.wire.models import Inventory, TensorFacts
from app.wire.problems import Problem
from app.wire.resolution import Origin
from app.wire.submission import Start
from app.wire.transfer import FunctionChange, TransferPlan

Json = Any

WORDS = Words(
    adaptable="the vocabulary",
    source="the file that MiniMind, or transformers, wrote",
    short_name=lambda tensor: tensor.name,
    remedies=lambda _: [],
)

_EFFECTS = {
    "rope_theta": "positions turn queries and keys by other angles",
    "rms_norm_eps": "norms divide by other numbers",
    "hidden_act": "the same weights pass through another function",
    "num_attention_heads": "the same weights are split into other heads",
    "num_key_value_heads": "the same weights are split into other heads",
    "head_dim": "the same weights are split into other heads",
    "num_experts_per_tok": "each token is sent to another number of experts",
    "norm_topk_prob": "experts are weighed in another way",
}
"""Keys that may leave every shape as it is, with what a change of their value does then."""

_OF_EXPERTS = ("num_experts_per_tok", "norm_topk_prob")


def plan(
    config: Mapping[str, Json], origins: Mapping[str, Origin], start: Start, base: Base, inventory: Inventory
) -> TransferPlan | list[Problem]:
    """Say what becomes of every tensor, or why that may not be. Pointers are into the submission."""
    section = Section("", dict(config["model"]))
    theirs = completed(base.facts.branches[0].model)
    if section.model["use_moe"] != theirs["use_moe"]:
        return [_other_kind(section, base, origins)]
    pair = Pair(section, theirs, {tensor.name: tensor for tensor in base.facts.tensors}, base.name)
    fates = [*_of_the_new_model(pair, inventory), *_of_the_base(pair, base.facts.tensors)]
    refused = [
        (fate.tensor, fate.deviation) for fate in fates if fate.deviation and not is_accepted(fate.deviation, start)
    ]
    problems = refuse(refused, origins, start, base.name, WORDS)
    changes = list(_function_changes(config, pair, base, fates))
    return problems or assembled(start, base, [fate.tensor for fate in fates], changes)


def _other_kind(section: Section, base: Base, origins: Mapping[str, Origin]) -> Problem:
    """Refuse to make a mixture of experts of a dense model, or the reverse."""
    is_moe = section.model["use_moe"]
    ours, theirs = ("a mixture of experts", "dense") if is_moe else ("dense", "a mixture of experts")
    message = (
        f"model.use_moe is {short(is_moe)}, but {base.name} has {short(not is_moe)}: the new model is {ours}, the base is "
        f"{theirs}, and no feed-forward layer of one is a part of the other"
    )
    hint = f'Write "use_moe": {short(not is_moe)}, or train from scratch.'
    at = submitted(origins, "/model/use_moe") or "/start/base"
    return Problem(code="transfer-mismatch", message=message, pointer=at, hint=hint)


def _of_the_new_model(pair: Pair, inventory: Inventory) -> Iterator[Fate]:
    """Yield the fate of every tensor, shared ones once."""
    aliases: dict[str, list[str]] = {}
    for tensor in inventory.tensors:
        if tensor.alias_of is not None:
            aliases.setdefault(tensor.alias_of, []).append(tensor.name)
    for tensor in inventory.tensors:
        if tensor.alias_of is None:
            fate = pair.fate(tensor)
            fate.tensor.aliases = aliases.get(tensor.name, [])
            yield fate


def _of_the_base(pair: Pair, tensors: list[TensorFacts]) -> Iterator[Fate]:
    """Yield the fate of every tensor of the base that the new model has no use for, shared ones once."""
    for tensor in tensors:
        if tensor.alias_of is None and tensor.name not in pair.used:
            yield pair.unused(tensor)


def _function_changes(
    config: Mapping[str, Json], pair: Pair, base: Base, fates: list[Fate]
) -> Iterator[FunctionChange]:
    """Yield what makes another function of the same weights, and has not shown in a tensor's shape already."""
    shaping = {at for fate in fates if fate.deviation for at in fate.deviation.keys}
    for key, effect in _EFFECTS.items():
        ours, theirs = pair.section.model[key], pair.base[key]
        if ours != theirs and f"/{key}" not in shaping and (pair.base["use_moe"] or key not in _OF_EXPERTS):
            yield _change(f"/model/{key}", f"model.{key}", ours, theirs, base.name, effect)
    tokenizer = base.facts.branches[0].model.get("tokenizer")
    known = tokenizer.get("digest") if isinstance(tokenizer, Mapping) else None
    ours = config["tokenizer"]["digest"]
    if known is not None and ours != known:
        effect = "rows of the embedding stand for other tokens than they were trained for"
        yield _change("/tokenizer/digest", "tokenizer.digest", ours, known, base.name, effect)


def _change(at: str, name: str, value: Json, had: Json, base: str, effect: str) -> FunctionChange:
    message = f"{name} is {short(value)} here, {short(had)} in {base}; {effect}"
    return FunctionChange(pointer=at, base=had, value=value, message=message)
