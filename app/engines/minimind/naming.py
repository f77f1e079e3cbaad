"""Names: of checkpoint files, and of things derived from data that later trainings can use again."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from app.engines.documents import canonical
from app.wire.datasets import DatasetRef

Json = Any

TOKENIZER_RULE = "cairn-bpe-v1"
"""Name of the rule by which a tokenizer is made of data. What it yields never changes; a new rule gets a new name."""

TOKENS_RULE = "cairn-tokens-v1"
"""Name of the rule by which documents become rows of tokens, the chat template included."""

_WEIGHTS = {"pretrain": "pretrain", "sft": "full_sft"}


def weights_name(config: Mapping[str, Json]) -> str:
    """Return MiniMind's own name of weights: `pretrain_512`, `full_sft_768_moe`."""
    model = config["model"]
    return f"{_WEIGHTS[config['stage']]}_{model['hidden_size']}{'_moe' if model['use_moe'] else ''}"


def file_stem(job_name: str, config: Mapping[str, Json], seed: int, digest: str) -> str:
    """Return `NAME-WEIGHTS-sSEED-DIGEST`, at most 120 characters, safe as a file name."""
    name = re.sub(r"[^A-Za-z0-9._]+", "-", job_name).strip("-._")[:60].rstrip("-._") or "job"
    return f"{name}-{weights_name(config)}-s{seed}-{digest[:6]}"


def artifact_keys(config: Mapping[str, Json], dataset_digests: Mapping[str, str]) -> dict[str, str]:
    """Return the key of `tokenizer` (where it is trained), of `tokens`, and of `validation_tokens` where there are any.

    They depend on the data by content and on what share of it is set aside, not on the model or a seed.
    """
    data, fraction = config["data"], config["data"]["validation_fraction"]
    trained, validated = (_content(data[section], dataset_digests) for section in ("train", "validation"))
    keys = {}
    if config["tokenizer"]["source"] == "train":
        keys["tokenizer"] = _digest({
            "rule": TOKENIZER_RULE,
            "library": f"tokenizers {version('tokenizers')}",
            "stage": config["stage"],
            "vocab_size": config["model"]["vocab_size"],
            "data": trained,
        })  # fmt: skip
    common = {
        "rule": TOKENS_RULE,
        "tokenizer": keys.get("tokenizer") or config["tokenizer"]["digest"],
        "stage": config["stage"],
        "max_seq_len": config["training"]["max_seq_len"],
        "set_aside": [fraction, trained] if fraction else None,
    }
    keys["tokens"] = _digest({**common, "kind": "tokens", "data": trained})
    if validated or fraction:
        keys["validation_tokens"] = _digest({**common, "kind": "validation_tokens", "data": validated})
    return keys


def _content(refs: Iterable[str], digests: Mapping[str, str]) -> Json:
    """Return what references stand for, by content: the name of a dataset does not matter, their order does."""
    found = []
    for text in refs:
        ref = DatasetRef.parse(text)
        assert ref is not None, f"{text} is no resolved reference"
        found.append([digests[f"{ref.name}@{ref.version}"], ref.system])
    return found


def _digest(value: Json) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()
