"""The tokenizer of a training: which one, and whether the model's vocabulary has room for it."""

from collections.abc import Mapping
from typing import Any

from app.engines.base import DatasetFacts
from app.engines.documents import short
from app.engines.draft import Draft
from app.engines.minimind.tokenizer import BOS, EOS, PAD
from app.engines.references import digests, newest
from app.wire.datasets import DatasetRef, TokenizerSummary

Json = Any

SMALLEST = 256 + len((PAD, BOS, EOS))
"""Tokens that a byte-level tokenizer has at least."""

_SOURCE, _DIGEST, _SIZE = ("tokenizer", "source"), ("tokenizer", "digest"), ("model", "vocab_size")


def of_base(draft: Draft) -> Mapping[str, Json] | None:
    """Return digest, vocab_size and has_chat_template of the base's tokenizer; None when it has none."""
    branches = draft.base.facts.branches if draft.base else []
    found = branches[0].model.get("tokenizer") if branches else None
    return found if isinstance(found, Mapping) else None


def settle_tokenizer(draft: Draft, datasets: Mapping[str, DatasetFacts], mode: str) -> None:
    """Pin the tokenizer, write its digest down, and give the model the vocabulary it needs."""
    source = draft.get(*_SOURCE)
    if mode == "resume" and draft.is_inherited(*_SOURCE):
        return
    if source == "train":
        _settle_trained(draft, mode)
    elif source == "base":
        _settle_base(draft)
    elif isinstance(source, str) and (ref := DatasetRef.parse(source)):
        if source in datasets:
            _settle_dataset(draft, ref, datasets)
    else:
        hint = "Write train, base, or dataset:NAME, a tokenizer.json that was added as a dataset."
        draft.refuse("invalid-choice", _SOURCE, f"may not be {short(source)}", hint)


def _settle_trained(draft: Draft, mode: str) -> None:
    if mode in ("init", "finetune") and not draft.is_explicit(*_SOURCE):
        assert draft.base is not None
        message = f"is missing: {draft.base.name} came without a tokenizer, and its weights mean the tokens of one"
        hint = (
            'Add its tokenizer.json as a dataset and write {"tokenizer": {"source": "dataset:NAME"}}; "train" makes a '
            "new one, whose tokens the embedding does not know."
        )
        draft.refuse("missing-key", _SOURCE, message, hint)
    size = draft.number(*_SIZE)
    if size is not None and size < SMALLEST:
        message = f"is {short(size)}, but a byte-level tokenizer has at least {SMALLEST} tokens"
        draft.refuse("out-of-range", _SIZE, message, "MiniMind's default is 6400.")
    _put_digest(draft, None, "made of the training data before the first step")


def _settle_base(draft: Draft) -> None:
    found = of_base(draft)
    if found is None:
        which = f"{draft.base.name} came without a tokenizer" if draft.base else "start.mode scratch has no base"
        hint = "Write train, or dataset:NAME, a tokenizer.json that was added as a dataset."
        draft.refuse("no-tokenizer", _SOURCE, f"is base, but {which}", hint)
        return
    assert draft.base is not None
    _put_digest(draft, found["digest"], f"the tokenizer of {draft.base.name}")
    _fit_vocabulary(draft, found["vocab_size"], f"the tokenizer of {draft.base.name}")
    name = f"the tokenizer of {draft.base.name}"
    # Bases that were looked into before this was asked do not say; the trainer does.
    _check_template(
        draft, has_template=bool(found["has_chat_template"]), marks=bool(found.get("marks_answers", True)), what=name
    )


def _settle_dataset(draft: Draft, ref: DatasetRef, datasets: Mapping[str, DatasetFacts]) -> None:
    text = draft.get(*_SOURCE)
    facts = datasets[text]
    name = f"{facts.name}@{facts.version}"
    if facts.tokenizer is None:
        message = f"names {name}, which holds no tokenizer"
        draft.refuse("no-tokenizer", _SOURCE, message, "Choose a dataset that was made of a tokenizer.json.")
        return
    pinned = f"dataset:{name}"
    if text != pinned:
        note = "; ".join(newest(ref, facts)) or None
        draft.put(_SOURCE, pinned, "derived", source=digests([text], datasets), note=note)
    _put_digest(draft, facts.tokenizer.digest, f"the tokenizer of {name}")
    _fit_vocabulary(draft, facts.tokenizer.vocab_size, name)
    can_converse = _can_converse(facts.tokenizer)
    _check_template(draft, has_template=can_converse, marks=facts.tokenizer.marks_answers, what=name)


def _put_digest(draft: Draft, digest: str | None, note: str) -> None:
    """Write the tokenizer's digest down; refuse one that was submitted and is another's."""
    given = draft.get(*_DIGEST)
    if draft.is_explicit(*_DIGEST) and given != digest:
        message = f"is {short(given)}, but that of {note} is {digest}"
        if digest is None:
            message = f"is {short(given)}, but the tokenizer is {note}"
        draft.refuse("contradiction", _DIGEST, message, "Remove it: it is filled in.")
    elif "digest" not in draft.get("tokenizer") or given != digest:
        draft.put(_DIGEST, digest, "derived", note=note)


def _fit_vocabulary(draft: Draft, tokens: int, what: str) -> None:
    """Make room for a tokenizer's tokens, unless it was submitted how much there is."""
    size = draft.get(*_SIZE)
    if draft.is_explicit(*_SIZE) and size < tokens:
        message = f"is {size}, but {what} has {tokens} tokens"
        draft.refuse("out-of-range", _SIZE, message, f"Leave it out, or write at least {tokens}.")
    is_enough = size >= tokens and (draft.is_explicit(*_SIZE) or draft.is_inherited(*_SIZE))
    if not is_enough and size != tokens:
        draft.put(_SIZE, tokens, "derived", note=f"{what} has {tokens} tokens")


def _can_converse(tokenizer: TokenizerSummary) -> bool:
    """Return whether conversations can be written with it: by its own template, or by ChatML, which needs two tokens."""
    return tokenizer.has_chat_template or all(token in tokenizer.special_tokens for token in (BOS, EOS))


def _check_template(draft: Draft, *, has_template: bool, marks: bool, what: str) -> None:
    if draft.get("stage") != "sft":
        return
    if not has_template:
        message = f"has no chat template, nor the tokens {BOS} and {EOS}: conversations cannot be written with {what}"
        draft.refuse(
            "no-chat-template", _SOURCE, message, "Add tokenizer_config.json, with its chat_template, as well."
        )
    elif not marks:
        message = (
            f"has a chat template without {BOS} and {EOS}: answers are found between them, and none would be in {what}"
        )
        hint = "Give its tokenizer_config.json a chat_template that writes conversations as ChatML does."
        draft.refuse("foreign-chat-template", _SOURCE, message, hint)
