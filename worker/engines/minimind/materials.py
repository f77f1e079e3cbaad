"""What a training begins with beside its config: the base, the tokenizer, the rows of tokens. Made once, then kept."""

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from app.engines import registry
from app.engines.minimind.tokenizer import BOS, EOS
from worker.engines.base import Context, RefusedFile
from worker.engines.minimind import corpus, tokens, weights
from worker.engines.minimind import tokenizer as tokenizers
from worker.engines.minimind.corpus import Corpus, Document, is_set_aside
from worker.engines.minimind.tokenizer import Tokenizer
from worker.engines.minimind.tokens import Counts, Rows
from worker.engines.minimind.weights import Weights
from worker.failures import TrainingFailure
from worker.rundir import RunDir, RunSpec

TOKENIZER, TOKENS, VALIDATION = "tokenizer", "tokens", "validation_tokens"
"""Artifact kinds, named by `app.engines.minimind.naming.artifact_keys`. The first is a tokenizer.json, the others Arrow files."""

Documents = Iterator[tuple[Document, int]]

_NO_ANSWERS = (
    f"An answer is what the tokenizer's chat template writes between {BOS}assistant and {EOS}: with another template none is "
    "found. Answers behind the first training.max_seq_len tokens of a conversation are cut off."
)


def base(spec: RunSpec, run: RunDir) -> Weights | None:
    """Return the base model's weights; None: there is none."""
    if spec.base is None:
        return None
    try:
        return weights.read(run.base / spec.base.file_name)
    except RefusedFile as error:
        raise TrainingFailure("configuration", f"The base model cannot be read: {error}", hint=error.hint) from error


def tokenizer(spec: RunSpec, context: Context, run: RunDir, base: Weights | None) -> Tokenizer:
    """Return the tokenizer that the config names: the base's, a dataset's, or one made of the training data."""
    context.phase("tokenizer")
    if spec.threads is not None:
        os.environ["RAYON_NUM_THREADS"] = str(spec.threads)  # read once, by the first call that needs threads
    source, digest = spec.config["tokenizer"]["source"], spec.config["tokenizer"]["digest"]
    if source == "train":
        return _trained(spec, context, run)
    found = _given(source, run, base)
    if digest is not None and found.digest != digest:
        message = f"The tokenizer of {source} has digest {found.digest[:12]}, not {digest[:12]} as the config says."
        raise TrainingFailure("configuration", message, hint="Submit the job again.")
    return found


def _given(source: str, run: RunDir, base: Weights | None) -> Tokenizer:
    if source == "base":
        if base is None or base.tokenizer is None:
            raise TrainingFailure("configuration", "The base has no tokenizer.", hint="Name one in tokenizer.source.")
        return base.tokenizer
    try:
        return tokenizers.read(*corpus.tokenizer_files(source, run.data))
    except RefusedFile as error:
        raise TrainingFailure("data", f"{source}: {error}", hint=error.hint) from error


def _trained(spec: RunSpec, context: Context, run: RunDir) -> Tokenizer:
    key = _keys(spec).get(TOKENIZER)
    path = context.artifact(TOKENIZER, key) if key else None
    if path is not None:
        found, how = Tokenizer(path.read_text(encoding="utf-8"), {}), "loaded"
    else:
        documents, wanted = _training_corpus(spec, context, run), int(spec.config["model"]["vocab_size"])
        found, how = tokenizers.train(documents, wanted), "trained"
        if key:
            context.keep(TOKENIZER, key, found.json.encode())
    message = f"Tokenizer {how}: {found.size} tokens."
    context.event("tokenizer", message, {"source": how, "sha256": found.digest, "vocab_size": found.size})
    return found


def rows(spec: RunSpec, context: Context, run: RunDir, tokenizer: Tokenizer) -> tuple[Rows, Rows | None]:
    """Return the rows that are trained on, and those that are held back, if any.

    Raises:
        TrainingFailure: There is nothing to train on.
    """
    context.phase("tokens")
    data = spec.config["data"]
    fraction = float(data["validation_fraction"])
    trained = _training_corpus(spec, context, run)
    held_out = corpus.locate(data["validation"], spec.config["stage"], run.data, context.heed_stop)
    wanted = {TOKENS: _chosen(trained, fraction, is_held_out=False)}
    if data["validation"] or fraction:
        wanted[VALIDATION] = _all_held_out(held_out, trained, fraction)
    sizes = {TOKENS: trained.size, VALIDATION: held_out.size + (trained.size if fraction else 0)}
    found = {kind: _rows(kind, documents, sizes[kind], spec, context, tokenizer) for kind, documents in wanted.items()}
    if not found[TOKENS].count:
        hint = _NO_ANSWERS if spec.config["stage"] == "sft" else "Look at data.train."
        raise TrainingFailure("data", "The training data hold no token to learn.", hint=hint)
    return found[TOKENS], found.get(VALIDATION)


def _training_corpus(spec: RunSpec, context: Context, run: RunDir) -> Corpus:
    return corpus.locate(spec.config["data"]["train"], spec.config["stage"], run.data, context.heed_stop)


def _chosen(documents: Corpus, fraction: float, *, is_held_out: bool) -> Documents:
    """Yield the documents that are set aside, or those that are not."""
    for document, size in documents.documents():
        if is_set_aside(document, fraction) == is_held_out:
            yield document, size


def _all_held_out(held_out: Corpus, trained: Corpus, fraction: float) -> Documents:
    yield from held_out.documents()
    if fraction:
        yield from _chosen(trained, fraction, is_held_out=True)


def _rows(kind: str, documents: Documents, size: int, spec: RunSpec, context: Context, tokenizer: Tokenizer) -> Rows:
    """Return the rows of documents: kept ones, or made now and read back the same way."""
    key = _keys(spec).get(kind)
    path = context.artifact(kind, key) if key else None
    if path is not None:
        found = Rows(path)
        context.event("tokens", f"{_called(kind)} loaded: {_sized(found)}.", {"kind": kind, "rows": found.count})
        return found
    made = context.root / "work" / f"{kind}.arrow"
    made.parent.mkdir(exist_ok=True)
    started, length = time.monotonic(), int(spec.config["training"]["max_seq_len"])

    def report(read: int) -> None:
        share = f"{100.0 * read / size:.0f} % of {size / 1e6:.0f} MB" if size else "a part"
        context.event("tokens", f"{_called(kind)}: {share} turned into tokens.", {"kind": kind, "bytes": read})

    counts = tokens.make(documents, tokenizer, spec.config["stage"], length, made, report)
    if key:
        context.keep_file(kind, key, made)
        kept = context.artifact(kind, key)
        assert kept is not None, "it has just been kept"
        made = kept
    found = Rows(made)
    context.event("tokens", *_in_words(kind, counts, found, time.monotonic() - started))
    return found


def _in_words(kind: str, counts: Counts, found: Rows, took_s: float) -> tuple[str, Mapping[str, Any]]:
    """Return what became of documents, for the timeline, and the same as data."""
    lost = f"; {counts.cut} longer than a row were cut" if counts.cut else ""
    lost += f"; {counts.unanswered} without an answer in them were left out" if counts.unanswered else ""
    message = (
        f"{_called(kind)} made of {counts.documents} documents: {_sized(found)}, {counts.tokens} tokens, "
        f"{100.0 * counts.padding:.2g} % padding, {took_s:.1f} s{lost}."
    )
    data = {"kind": kind, "rows": found.count, "documents": counts.documents, "tokens": counts.tokens}
    return message, {**data, "padding": counts.padding, "cut": counts.cut, "unanswered": counts.unanswered}


def _called(kind: str) -> str:
    return "Rows to train on" if kind == TOKENS else "Rows held back"


def _sized(found: Rows) -> str:
    return f"{found.count} rows of {found.row_length}"


def _keys(spec: RunSpec) -> Mapping[str, str]:
    engine = registry.get(spec.engine)
    assert engine is not None, "the trainer was found by it"
    return engine.artifact_keys(spec.config, spec.datasets)
