"""What this engine does beside training: looking into files of weights, listing the tensors of a model.

See `worker.engines.base.Errands`. Runs in a process of its own, under limits, on the CPU.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from app.engines.minimind.keys import MODEL_DEFAULTS
from app.engines.minimind.model import completed
from app.engines.minimind.tokenizer import marks_answers
from app.wire.models import BaseFacts, BranchFacts, Inventory, TensorFacts
from worker.engines.base import RefusedFile
from worker.engines.minimind import model, names, weights
from worker.engines.minimind.weights import Weights
from worker.tensors import digest, dtype

Json = Any


def inspect(path: Path, file_name: str) -> BaseFacts:
    """Look into a file of weights without running any code from it.

    Raises:
        RefusedFile: It cannot be used; the message says why and what to do.
    """
    found = weights.read(path, file_name)
    parameters = _count(found, found.tensors)
    section = {**found.section, "tokenizer": _tokenizer(found)}
    return BaseFacts(
        engine="minimind",
        form=found.form,
        architecture=_describe(found.section),
        library=found.library,
        branches=[BranchFacts(name="", model=section, parameters=parameters)],
        tensors=_tensors(found),
        parameters=parameters,
        step=found.step,
        has_optimizer=found.has_optimizer,
        config=found.config,
        seed=found.seed,
        seeds=found.seeds,
        ranks=found.ranks,
        warnings=list(found.notices),
    )


def inventory(order: Mapping[str, Any]) -> Inventory:
    """List the tensors of the model that `Engine.inventory_order` describes.

    Raises:
        RefusedFile: transformers cannot build it.
    """
    section = completed({**MODEL_DEFAULTS, **order["model"]})
    try:
        built = names.tensors(model.empty(section, "meta"))
    except (ValueError, TypeError, RuntimeError) as error:
        raise RefusedFile(
            f"transformers cannot build this model: {error}", "Look at the sizes in its section."
        ) from error
    return Inventory(
        tensors=[
            TensorFacts(
                name=name,
                shape=list(tensor.shape),
                dtype=dtype(tensor),
                is_parameter=True,
                alias_of=names.alias_of(name, section["tie_word_embeddings"]),
            )
            for name, tensor in sorted(built.items())
        ]
    )


def _tokenizer(found: Weights) -> Json:
    own = found.tokenizer
    if own is None:
        return None
    return {
        "digest": own.digest,
        "vocab_size": own.size,
        "has_chat_template": own.can_converse,
        "marks_answers": marks_answers(own.template),
    }


def _describe(section: Mapping[str, Json]) -> str:
    experts = f", {section['num_experts']} experts" if section["use_moe"] else ""
    return f"{section['family']}, {section['num_hidden_layers']} layers of {section['hidden_size']}{experts}"


def _tensors(found: Weights) -> list[TensorFacts]:
    aliases = found.aliases
    digests = {name: digest(tensor) for name, tensor in found.tensors.items() if name not in aliases}
    return [
        TensorFacts(
            name=name,
            shape=list(tensor.shape),
            dtype=dtype(tensor),
            is_parameter=True,
            sha256=digests[aliases.get(name, name)],
            alias_of=aliases.get(name),
        )
        for name, tensor in sorted(found.tensors.items())
    ]


def _count(found: Weights, tensors: Iterable[str]) -> int:
    """Return how many numbers tensors have, those that share memory once."""
    return sum(found.tensors[name].numel() for name in tensors if name not in found.aliases)
